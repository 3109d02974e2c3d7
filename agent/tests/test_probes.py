"""Facts from made-up machines, honest and hostile."""

import hashlib
import json
import os
import struct
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securecloud_agent.errors import ConfigError
from securecloud_agent.probes import collect as collecting
from securecloud_agent.probes.collect import PROBES, SUPPLIED, clean, collect, names
from securecloud_agent.probes.context import Context, ProbeError
from securecloud_agent.probes.network_services import _unit
from securecloud_agent.probes.patch_level import count_security_installs
from securecloud_agent.providers.plain import Plain
from securecloud_agent.providers.provider import load
from securecloud_agent.run import Finished, ToolMissingError
from securecloud_protocol import messages as wire
from securecloud_protocol.messages import EVIDENCE_BODY, EvidenceBody, Fact, FactRequest

NOW = 1_800_000_000
QUIET = b"quiet\n"


class Machine:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.answers: dict[str, Finished] = {}
        self.calls: list[list[str]] = []

    def put(self, path: str, content: str | bytes, age: int = 0) -> Path:
        file = self.root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        os.utime(file, (NOW - age, NOW - age))
        return file

    def run(self, argv, *, timeout, secret=None, pass_fds=()):
        self.calls.append(list(argv))
        if argv[0] not in self.answers:
            raise ToolMissingError(f"the program {argv[0]} is not installed")
        return self.answers[argv[0]]

    def fact(self, name: str, *args: str) -> Fact:
        context = Context(self.root, self.run, 5, lambda: NOW, probes_dir=self.root / "probes.d")
        return collect([FactRequest(name, args)], context)[name]

    def value(self, name: str, *args: str):
        fact = self.fact(name, *args)
        assert fact.error is None
        assert fact.provenance == "claimed"
        return fact.value

    def error(self, name: str, *args: str) -> str:
        fact = self.fact(name, *args)
        assert (fact.value, fact.provenance) == (None, None)
        assert fact.error is not None
        return fact.error


@pytest.fixture
def machine(tmp_path) -> Machine:
    return Machine(tmp_path)


def test_names_are_those_of_the_contract():
    assert set(names()) == PROBES | SUPPLIED
    modules = {path.stem for path in Path(collecting.__file__).parent.glob("*.py")}
    assert modules - {"__init__", "collect", "context", "watch"} == PROBES


def test_every_fact_of_this_real_machine_travels(tmp_path):
    plain = Plain({})
    context = Context(supplied={"location": plain.location, "instance": plain.instance}, timeout=20)
    requests = [FactRequest(name) for name in names() if name != "patch_level"]
    facts = collect(requests, context)
    body = EvidenceBody("0.1.0", "11111111-2222-3333-4444-555555555555", (), facts)
    octets = wire.encode(EVIDENCE_BODY, body)
    assert wire.decode(EVIDENCE_BODY, octets).facts.keys() == facts.keys()
    for name in ("host_name", "os", "kernel", "boot", "users", "packages", "network_services"):
        assert facts[name].error is None


def test_empty_machine_gives_errors_or_empty_values_but_never_fails(machine):
    facts = collect([FactRequest(name) for name in names()], Context(machine.root, machine.run))
    assert facts.keys() == set(names())
    assert facts["host_name"].error == (
        "/proc/sys/kernel/hostname cannot be read: No such file or directory"
    )


def test_host_kernel_and_boot(machine):
    machine.put("/proc/sys/kernel/hostname", "web1\n")
    machine.put("/proc/sys/kernel/osrelease", "6.1.0\n")
    machine.put("/proc/sys/kernel/version", "#1 SMP\n")
    machine.put("/proc/cmdline", QUIET)
    machine.put("/proc/uptime", "123.99 400.00\n")
    machine.put("/proc/sys/kernel/random/boot_id", "abc\n")
    assert machine.value("host_name") == "web1"
    kernel = machine.value("kernel")
    assert kernel["release"] == "6.1.0"
    assert (
        kernel["command_line_digest"]
        == f"sha256:{hashlib.sha256(b'quiet' + bytes([10])).hexdigest()}"
    )
    assert machine.value("boot") == {"boot_id": "abc", "uptime_seconds": 123}
    machine.put("/proc/uptime", "-1e99")
    assert machine.error("boot") == "the uptime is not a number"


def test_os_release_is_quoted_as_in_a_shell(machine):
    machine.put(
        "/usr/lib/os-release",
        'ID=debian\n# comment\nPRETTY_NAME="A \\"B\\""\nVERSION_ID=\'12\'\nX\n',
    )
    assert machine.value("os") == {"id": "debian", "version_id": "12", "name": 'A "B"'}
    machine.put("/etc/os-release", "ID='")
    assert "not quoted" in machine.error("os")


def test_users_with_a_login_shell(machine):
    machine.put(
        "/etc/passwd",
        "root:x:0:0::/root:/bin/bash\ndaemon:x:1:1::/:/usr/sbin/nologin\nsync:x:4:4::/:/bin/sync\n"
        "empty:x:5:5::/:\nbroken\nbad\x00name:x:6:6::/:/bin/sh\n",
    )
    assert machine.value("users") == ["bad?name", "empty", "root"]


def test_packages_of_dpkg(machine):
    machine.put(
        "/var/lib/dpkg/status",
        "Package: openssl\nStatus: install ok installed\nVersion: 3.0.1-1\nDescription: a\n"
        " Status: deinstall\n\nPackage: gone\nStatus: deinstall ok config-files\nVersion: 1\n\n"
        "Package: vim\nStatus: hold ok installed\nVersion: 2:9\n",
    )
    assert machine.value("packages") == {"openssl": "3.0.1-1", "vim": "2:9"}
    assert machine.value("packages", "vim", "gone", "never") == {"vim": "2:9"}


def test_packages_of_rpm(machine):
    machine.answers["rpm"] = Finished(0, b"bash\t5.1-2\nkernel\t1:6.1-1\nodd\n", "")
    assert machine.value("packages") == {"bash": "5.1-2", "kernel": "1:6.1-1"}
    machine.answers["rpm"] = Finished(1, b"", "cannot open database\n")
    assert machine.error("packages") == "rpm: cannot open database"


def test_file_digests_take_regular_files_only(machine):
    file = machine.put("/etc/app.conf", "x")
    (machine.root / "etc/link").symlink_to(file)
    os.mkfifo(machine.root / "etc/pipe")
    (machine.root / "etc/huge").touch()
    os.truncate(machine.root / "etc/huge", 65 * 1024 * 1024)
    paths = ("/etc/app.conf", "/etc/link", "/etc/pipe", "/etc/huge", "/etc", "/none", "relative",
             "/etc/../etc/app.conf", "/etc//app.conf", "/etc/./app.conf")  # fmt: skip
    digest = f"sha256:{hashlib.sha256(b'x').hexdigest()}"
    assert machine.value("file_digests", *paths) == {"/etc/app.conf": digest}


SOCKETS = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid inode
   0: {any4}:01BB 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1
   1: {local4}:1F90 {local4}:9999 01 00000000:00000000 00:00000000 00000000     0        0 1 1
"""


def kernel_address(octets: bytes) -> str:
    words = struct.unpack(f"={len(octets) // 4}I", octets)
    return "".join(f"{word:08X}" for word in words)


def test_listening_sockets_with_their_processes(machine):
    any4, local4 = kernel_address(bytes(4)), kernel_address(bytes([127, 0, 0, 1]))
    machine.put("/proc/net/tcp", SOCKETS.format(any4=any4, local4=local4))
    any6 = kernel_address(bytes(15) + b"\x01")
    machine.put("/proc/net/udp6", SOCKETS.format(any4=any6, local4=any6).replace(" 0A ", " 07 "))
    machine.put("/proc/99/comm", "nginx\n")
    machine.put("/proc/99/cgroup", "0::/system.slice/nginx.service/worker\n")
    (machine.root / "proc/99/fd").mkdir()
    (machine.root / "proc/99/fd/7").symlink_to("socket:[4242]")
    (machine.root / "proc/99/fd/8").symlink_to("/dev/null")
    # The process that made the socket and handed it over holds it, too.
    machine.put("/proc/1/comm", "systemd\n")
    machine.put("/proc/1/cgroup", "0::/init.scope\n")
    (machine.root / "proc/1/fd").mkdir()
    (machine.root / "proc/1/fd/9").symlink_to("socket:[4242]")
    owner = {"process": "nginx", "unit": "nginx.service"}
    assert machine.value("network_services") == [
        {"protocol": "tcp", "address": "0.0.0.0", "port": 443, **owner},
        {"protocol": "udp", "address": "::1", "port": 443, **owner},
    ]


@pytest.mark.parametrize(
    ("groups", "unit"),
    [
        ("0::/system.slice/ssh.service\n", "ssh.service"),
        ("0::/user.slice/user-0.slice/session-1.scope\n", "session-1.scope"),
        ("0::/user.slice/user@0.service/app.slice/x.service\n", "x.service"),
        ("12:cpu:/a.service\n1:name=systemd:/system.slice/b.service\n0::/\n", "b.service"),
        ("0::/docker/0123\n", None),
        ("", None),
        ("nonsense\n0:\n::\n", None),
    ],
)
def test_unit_of_a_process(groups, unit):
    assert _unit(groups) == unit


def test_socket_table_that_lies_is_an_error(machine):
    machine.put("/proc/net/tcp", "h\n 0: ZZZZ:01BB x 0A 0 0 0 0 0 0 1\n")
    assert "not understood" in machine.error("network_services")


def test_enabled_units(machine):
    for link in ("multi-user.target.wants/ssh.service", "ssh.service.requires/sshd.socket"):
        path = machine.root / "etc/systemd/system" / link
        path.parent.mkdir(parents=True)
        path.symlink_to("/lib/systemd/system/x")
    machine.put("/etc/systemd/system/multi-user.target.wants/no-link", "")
    assert machine.value("enabled_units") == ["ssh.service", "sshd.socket"]


HEADER = "ClamAV-VDB:18 Sep 2026 04-28 -0400:{version}:1:90:md5:dsig:raynman:{built}"


def test_clamav(machine):
    old = HEADER.format(version=100, built=NOW - 90000)
    new = HEADER.format(version=101, built=NOW - 3 * 3600 - 5)
    machine.put("/var/lib/clamav/daily.cvd", old.ljust(512).encode() + bytes(range(256)))
    machine.put("/var/lib/clamav/daily.cld", new.ljust(512).encode() + bytes(range(256)))
    machine.put("/proc/5/comm", "clamd\n")
    machine.answers["clamscan"] = Finished(0, b"ClamAV 1.0.7/27450/Mon\n", "")
    assert machine.value("anti_malware") == {
        "product": "clamav",
        "engine_version": "1.0.7",
        "pattern_version": "101",
        "pattern_age_hours": 3,
        "running": True,
    }


@pytest.mark.parametrize(
    "content", [b"", b"\xff" * 600, HEADER.format(version="-1", built=NOW).encode(),
                HEADER.format(version="1" * 400, built=NOW).encode()]
)  # fmt: skip
def test_clamav_header_that_lies(machine, content):
    machine.put("/var/lib/clamav/daily.cld", content)
    assert "ClamAV database" in machine.error("anti_malware")


OTHER = {
    "product": "Other Shield",
    "engine_version": "9.2-1",
    "pattern_version": "2026.11.25",
    "pattern_age_hours": 7,
    "running": True,
}


@pytest.fixture
def own_probe(machine) -> Path:
    """An administrator's probe, on a machine that has ClamAV as well."""
    old = HEADER.format(version=100, built=NOW - 90000)
    machine.put("/var/lib/clamav/daily.cvd", old.ljust(512))
    path = machine.put("/probes.d/anti_malware", "#!/bin/sh\n")
    path.chmod(0o755)
    machine.answers[str(path)] = Finished(0, json.dumps(OTHER).encode(), "")
    return path


def test_another_product_than_clamav(machine, own_probe):
    assert machine.value("anti_malware") == OTHER
    machine.answers[str(own_probe)] = Finished(0, b'{"product": "Other Shield"}', "")
    assert machine.value("anti_malware") == {**dict.fromkeys(OTHER), "product": "Other Shield"}


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (b"", "did not print one JSON object"),
        (b"[]", "did not print one JSON object"),
        (b'{"product": "x"} {}', "did not print one JSON object"),
        (b"{}", "product: expected a name"),
        (b'{"product": "a\\nb"}', "product: expected a name"),
        (b'{"product": "x", "pattern_version": "1 2"}', "pattern_version: expected a version"),
        (b'{"product": "x", "pattern_age_hours": -1}', "pattern_age_hours: expected hours"),
        (b'{"product": "x", "pattern_age_hours": true}', "pattern_age_hours: expected hours"),
        (b'{"product": "x", "running": "yes"}', "running: expected true, false or null"),
        (b'{"product": "x", "engine": "1"}', "no such member: engine; there are product,"),
    ],
)
def test_another_product_whose_probe_says_something_else(machine, own_probe, output, said):
    machine.answers[str(own_probe)] = Finished(0, output, "")
    assert said in machine.error("anti_malware")


def test_another_product_whose_probe_fails_is_not_taken_for_clamav(machine, own_probe):
    machine.answers[str(own_probe)] = Finished(3, b"", "no licence\n")
    assert machine.error("anti_malware").endswith("anti_malware: no licence")
    own_probe.chmod(0o644)
    assert "is not run: it is not executable" in machine.error("anti_malware")
    own_probe.chmod(0o777)
    assert "others than its owner may write it" in machine.error("anti_malware")
    own_probe.chmod(0o755)
    own_probe.parent.chmod(0o777)
    assert "others than its owner may write it" in machine.error("anti_malware")
    own_probe.parent.chmod(0o755)
    own_probe.rename(own_probe.with_suffix(".real"))
    own_probe.symlink_to(own_probe.with_suffix(".real"))
    assert "is not run: it is a symbolic link" in machine.error("anti_malware")
    assert str(own_probe) not in [call[0] for call in machine.calls[1:]]


def test_another_products_probe_has_a_time_limit(machine, own_probe):
    own_probe.write_text("#!/bin/sh\nexec sleep 60\n")
    context = Context(machine.root, timeout=0.3, probes_dir=own_probe.parent)
    (fact,) = collect([FactRequest("anti_malware", ())], context).values()
    assert fact.error is not None
    own_probe.write_text("#!/bin/sh\necho '" + json.dumps(OTHER) + "'\n")
    context = Context(machine.root, timeout=5, probes_dir=own_probe.parent)
    (fact,) = collect([FactRequest("anti_malware", ())], context).values()
    assert fact.value == OTHER


APT = b"""NOTE: This is only a simulation!
Inst libssl3 [3.0.1] (3.0.2 Debian-Security:12/stable-security [amd64])
Inst tzdata [1] (2 Debian:12.5/stable [all])
Inst linux-image (6.1 Ubuntu:24.04/noble-security [amd64]) []
Conf libssl3 (3.0.2 Debian-Security:12/stable-security [amd64])
Inst security-tools [1] (2 Debian:12.5/stable [all])
"""


def test_patch_level_of_apt(machine):
    machine.put("/var/lib/dpkg/status", "", age=10 * 86400)
    machine.put("/var/log/apt/history.log", "", age=3 * 86400 + 5)
    machine.put("/var/lib/apt/lists/deb_Packages", "")
    machine.put("/run/reboot-required", "")
    machine.answers["apt-get"] = Finished(0, APT, "")
    assert machine.value("patch_level") == {
        "pending_security_updates": 2,
        "days_since_update": 3,
        "reboot_required": True,
    }
    assert "Debug::NoLocking=true" in machine.calls[0]


def test_patch_level_without_package_lists_is_unknown(machine):
    machine.put("/var/lib/dpkg/status", "")
    assert "run apt-get update" in machine.error("patch_level")


DNF_4 = """\
FEDORA-1 Important/Sec. bash-5-1.x86_64
FEDORA-2 Moderate/Sec.  bash-5-1.x86_64
FEDORA-3 Unknown/Sec.   vim-9-1.noarch
"""
DNF_5 = """\
Name     Type     Severity         Package              Issued
FEDORA-1 security Moderate bash-5-1.x86_64 2026-01-20 00:00:00
FEDORA-2 security          bash-5-1.x86_64 2026-01-20 00:00:00
FEDORA-3 security none      vim-9-1.noarch 2026-01-20 00:00:00
"""
DNF_CACHED = {4: "/var/cache/dnf/lab-1/repodata", 5: "/var/cache/libdnf5/lab-1/repodata"}


@pytest.mark.parametrize(("version", "listed"), [(4, DNF_4), (5, DNF_5)])
def test_patch_level_of_dnf(machine, version, listed):
    machine.put("/var/lib/rpm/rpmdb.sqlite", "", age=86400)
    machine.put(f"{DNF_CACHED[version]}/repomd.xml", "")
    machine.answers["dnf"] = Finished(0, listed.encode(), "Unable to detect release version\n")
    assert machine.value("patch_level") == {
        "pending_security_updates": 2,
        "days_since_update": 1,
        "reboot_required": False,
    }
    machine.answers["dnf"] = Finished(0, b"", "")
    assert machine.value("patch_level")["pending_security_updates"] == 0


def test_patch_level_without_metadata_of_repositories_is_unknown(machine):
    machine.put("/var/lib/rpm/rpmdb.sqlite", "")
    machine.answers["dnf"] = Finished(0, b"", "")
    assert "run dnf makecache" in machine.error("patch_level")
    assert machine.calls == []


def test_patch_level_fails_where_one_repository_has_no_metadata(machine):
    machine.put("/var/lib/rpm/rpmdb.sqlite", "")
    machine.put(f"{DNF_CACHED[4]}/repomd.xml", "")
    complaint = "Error: Cache-only enabled but no cache for 'two'"
    machine.answers["dnf"] = Finished(1, b"", complaint)
    assert machine.error("patch_level") == f"dnf: {complaint}"
    assert "--setopt=*.skip_if_unavailable=0" in machine.calls[0]


def test_a_line_of_dnf_that_is_not_understood_is_no_update_less(machine):
    machine.put("/var/lib/rpm/rpmdb.sqlite", "")
    machine.put(f"{DNF_CACHED[4]}/repomd.xml", "")
    machine.answers["dnf"] = Finished(0, b"FEDORA-1 Important/Sec. bash-5\nFEDORA-2 vim\n", "")
    assert machine.error("patch_level") == "dnf: not a line of a list of advisories: FEDORA-2 vim"


@given(st.text())
def test_apt_output_never_breaks_the_count(text):
    assert count_security_installs(text) >= 0


def test_mandatory_access_control(machine):
    assert machine.value("mandatory_access_control") == {"selinux": "absent", "apparmor": "absent"}
    machine.put("/sys/fs/selinux/enforce", "0")
    machine.put("/sys/module/apparmor/parameters/enabled", "Y\n")
    machine.put("/sys/kernel/security/apparmor/profiles", "/bin/a (complain)\n")
    assert machine.value("mandatory_access_control") == {
        "selinux": "permissive",
        "apparmor": "disabled",
    }
    machine.put("/sys/kernel/security/apparmor/profiles", "/bin/a (enforce)\n")
    machine.put("/sys/fs/selinux/enforce", "1")
    assert set(machine.value("mandatory_access_control").values()) == {"enforcing"}


def test_secure_boot(machine):
    assert machine.value("secure_boot") == {"supported": False, "enabled": False}
    variables = "/sys/firmware/efi/efivars/{}-8be4df61-93ca-11d2-aa0d-00e098032b8c"
    machine.put(variables.format("SecureBoot"), b"\x06\0\0\0\x01")
    assert machine.value("secure_boot") == {"supported": True, "enabled": True}
    machine.put(variables.format("SetupMode"), b"\x06\0\0\0\x01")
    assert machine.value("secure_boot")["enabled"] is False
    machine.put(variables.format("SecureBoot"), b"\x01")
    assert machine.value("secure_boot")["supported"] is False


def test_tpm(machine):
    assert machine.value("tpm") == {"present": False, "version": None}
    machine.put("/sys/class/tpm/tpm0/tpm_version_major", "2\n")
    assert machine.value("tpm") == {"present": True, "version": "2.0"}


def test_tpm_registers(machine):
    assert "there is no TPM whose registers" in machine.error("tpm_pcrs")
    for register in range(24):
        machine.put(f"/sys/class/tpm/tpm0/pcr-sha256/{register}", f"{register:064X}\n")
    assert machine.value("tpm_pcrs", "7") == {"7": f"sha256:{7:064x}"}
    assert machine.value("tpm_pcrs", "11", "24", "../../../etc/passwd", "07") == {
        "11": f"sha256:{11:064x}"
    }
    assert list(machine.value("tpm_pcrs")) == [str(register) for register in range(24)]
    machine.put("/sys/class/tpm/tpm0/pcr-sha256/7", "Input/output error")
    assert machine.error("tpm_pcrs", "7") == "register 7 reads as no SHA-256 digest"


def test_unknown_fact_and_failing_probe(machine):
    assert machine.error("astrology") == "this agent knows no such fact"
    assert machine.error("../errors") == "this agent knows no such fact"

    def broken() -> None:
        raise ZeroDivisionError("secret detail")

    context = Context(machine.root, supplied={"location": broken})
    facts = collect([FactRequest("location"), FactRequest("users")], context)
    assert facts["location"].error == "the probe failed: ZeroDivisionError"


def test_probe_that_hangs_is_left_behind(machine):
    never = threading.Event()
    supplied = {"location": lambda: never.wait(10), "instance": lambda: {"id": None}}
    context = Context(machine.root, supplied=supplied, timeout=0.1)
    facts = collect([FactRequest("location"), FactRequest("instance")], context)
    assert facts["location"].error == "not known within 0.1 s"
    assert facts["instance"].value == {"id": None}
    never.set()


def test_largest_fact_gives_way(machine):
    context = Context(
        machine.root, supplied={"location": lambda: "x" * 100_000, "instance": lambda: "y" * 90_000}
    )
    facts = collect([FactRequest("location"), FactRequest("instance")], context)
    assert "too much for one message" in (facts["location"].error or "")
    assert facts["instance"].value == "y" * 90_000


def test_only_what_travels_is_let_out():
    assert clean({"a": ("x\0y", "\udc80", True, None, 5)}) == {"a": ["x?y", "?", True, None, 5]}
    nested: object = 1
    for _ in range(20):
        nested = [nested]
    for wrong in (1.5, 2**60, b"x", nested):
        with pytest.raises(ProbeError):
            clean(wrong)


def test_plain_provider(tmp_path):
    machine = Machine(tmp_path)
    where = {"region": "eu", "zone": None, "datacenter": "fra1"}
    plain = Plain(where, tmp_path)
    assert plain.location() == {"provider": "plain", **where}
    assert plain.instance() == {"id": None, "user_data_digest": None, "user_data": None}
    machine.put("/etc/machine-id", "0123456789abcdef0123456789abcdef\n")
    derived = plain.instance()["id"]
    assert derived is not None
    assert "0123456789ab" not in derived
    machine.put("/sys/class/dmi/id/product_uuid", "03000200-0400-0500-0006-000700080009\n")
    assert plain.instance()["id"] == derived
    machine.put("/sys/class/dmi/id/product_uuid", "4C4C4544-0031-3510-8052-B4C04F4A3132\n")
    assert plain.instance()["id"] == "4c4c4544-0031-3510-8052-b4c04f4a3132"
    machine.put("/var/lib/cloud/instance/user-data.txt", "#cloud-config\n")
    assert plain.instance()["user_data"] == "#cloud-config\n"
    machine.put("/var/lib/cloud/instance/user-data.txt", b"\xff" * 9)
    assert plain.instance()["user_data"] is None
    assert str(plain.instance()["user_data_digest"]).startswith("sha256:")


def test_provider_plugins():
    assert load("plain") is Plain
    with pytest.raises(ConfigError, match="no plugin vcloud is installed; there is: plain"):
        load("vcloud")
