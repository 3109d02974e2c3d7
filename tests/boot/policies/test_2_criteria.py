"""Each criterion of a policy: its real condition turns, the key goes, and it comes back.

One device for each, whose policy has that one rule, so that each says for itself what it saw.
"""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import pytest

from lab.machine import Machine
from tests.boot.guests import Api, Guest, eventually
from tests.boot.policies.devices import Devices, made, rule

REPOSITORY = """\
set -e
mkdir -p /var/tmp/repo/p/DEBIAN && cd /var/tmp/repo
package() {
    printf 'Package: %s\\nVersion: %s\\nArchitecture: all\\nMaintainer: lab\\nDescription: -\\n' \\
        $1 $2 >p/DEBIAN/control
    dpkg-deb --build p $1_$2.deb >/dev/null
}
publish() {
    for deb in wanted_*.deb; do
        dpkg-deb -f $deb
        printf 'Filename: ./%s\\nSize: %s\\n' $deb $(stat -c %s $deb)
        printf 'SHA256: %s\\n\\n' $(sha256sum <$deb | cut -d' ' -f1)
    done >Packages
    {
        printf 'Origin: Debian\\nLabel: Debian-Security\\nSuite: stable-security\\nSHA256:\\n'
        printf ' %s %s Packages\\n' $(sha256sum <Packages | cut -d' ' -f1) $(stat -c %s Packages)
    } >Release
    apt-get update -qq -o Dir::Etc::SourceList=/etc/apt/sources.list.d/lab.list \\
        -o Dir::Etc::SourceParts=- -o APT::Get::List-Cleanup=0
}
"""
PATTERNS = """\
mkdir -p /var/lib/clamav
printf '%-512s' "ClamAV-VDB:now:27000:2000000:90:md5:signature:builder:$(date -d '{}' +%s)" \\
    >/var/lib/clamav/daily.cvd
"""
LISTEN = "systemd-run --quiet --unit=unwanted-{0} python3 -m http.server --bind 127.0.0.1 {0}"
UNIT = """printf '[Service]\\nExecStart=true\\n[Install]\\nWantedBy=multi-user.target\\n' \
>/etc/systemd/system/unwanted.service && systemctl --quiet enable unwanted.service"""
TRACES = "/var/log/apt/history.log /var/log/dpkg.log /var/lib/dpkg/status"


@dataclass(frozen=True)
class Criterion:
    """A rule that holds, and what makes its condition turn, and turn back, as root."""

    rule: dict[str, Any]
    turn: str = "true"
    mend: str = "true"
    prepare: str = "true"


def digest(text: str) -> str:
    return f"sha256:{sha256(text.encode()).hexdigest()}"


MACHINE = {
    "host-name": Criterion(
        rule("host_name", "equals", "agent2"), "hostname other", "hostname agent2"
    ),
    "guest-os": Criterion(
        rule("os.version_id", "one_of", ["12"]),
        "rm /etc/os-release; sed 's/^VERSION_ID=.*/VERSION_ID=13/' /usr/lib/os-release"
        " >/etc/os-release",
        "ln -sf ../usr/lib/os-release /etc/os-release",
    ),
    "security-updates": Criterion(
        rule("patch_level.pending_security_updates", "equals", 0),
        f"{REPOSITORY} package wanted 2; publish",
        f"{REPOSITORY} dpkg --install wanted_2.deb >/dev/null",
        f"rm -rf /var/tmp/repo; {REPOSITORY} package wanted 1; package unwanted 1;"
        " dpkg --install wanted_1.deb >/dev/null;"
        " echo 'deb [trusted=yes] file:/var/tmp/repo ./' >/etc/apt/sources.list.d/lab.list;"
        " publish",
    ),
    "package": Criterion(
        {"not": rule("packages", "has_keys", ["unwanted"])},
        "dpkg --install /var/tmp/repo/unwanted_1.deb >/dev/null",
        "dpkg --purge unwanted >/dev/null",
    ),
    "malware-patterns": Criterion(
        rule("anti_malware.pattern_age_hours", "at_most", 48),
        PATTERNS.format("10 days ago"),
        PATTERNS.format("now"),
        PATTERNS.format("now"),
    ),
    "listener": Criterion(
        rule("network_services", "ports_exclude", ["tcp/8099"]),
        LISTEN.format(8099),
        "systemctl stop unwanted-8099",
    ),
    "listener-unit": Criterion(
        {"jmespath": "length(network_services[?unit == 'unwanted-8098.service']) == `0`"},
        LISTEN.format(8098),
        "systemctl stop unwanted-8098",
    ),
    "enabled-unit": Criterion(
        rule("enabled_units", "excludes", ["unwanted.service"]),
        UNIT,
        "systemctl --quiet disable unwanted.service; rm /etc/systemd/system/unwanted.service",
    ),
    "user": Criterion(
        rule("users", "excludes", ["stranger"]),
        "useradd --shell /bin/bash stranger",
        "userdel stranger",
    ),
    "file": Criterion(
        rule('file_digests."/etc/lab.conf"', "equals", digest("good\n")),
        "echo bad >/etc/lab.conf",
        "echo good >/etc/lab.conf",
        "echo good >/etc/lab.conf",
    ),
    "access-control": Criterion(
        rule("mandatory_access_control.selinux", "equals", "absent"),
        "touch /etc/selinux/config",
        "rm /etc/selinux/config",
    ),
    "user-data": Criterion(
        rule("instance.user_data_digest", "equals", digest("role: web\n")),
        "echo 'role: other' >/var/lib/cloud/instance/user-data.txt",
        "echo 'role: web' >/var/lib/cloud/instance/user-data.txt",
        "mkdir -p /var/lib/cloud/instance; echo 'role: web' >/var/lib/cloud/instance/user-data.txt",
    ),
}
"""What the machine says of itself, in an order in which none gets in the way of the next."""

REGION = rule("location.region", "equals", "lab")
SETTINGS = (
    "sed -i 's/^region = .*/region = \"{}\"/' /etc/securecloud/agent.toml &&"
    " systemctl restart securecloud-agent"
)

ASKED = {
    "access-type": rule("device.access", "equals", "read-write"),
    "mount-point": rule("device.mount_point", "starts_with", "/srv/"),
    "source": rule("request.source_ip", "not_in_networks", ["127.0.0.0/8"]),
}
"""What the server itself knows of the device and of the request."""

EVERY = {**{name: each.rule for name, each in MACHINE.items()}, "region": REGION, **ASKED}


@contextmanager
def another_way(server: Machine) -> Iterator[int]:
    """A port of this host that leads to the server as from the server's own machine."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    ssh, *rest = server.ssh_command()
    tunnel = subprocess.Popen([ssh, "-N", "-L", f"127.0.0.1:{port}:127.0.0.1:8443", *rest])

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually("the tunnel stands", listens)
        yield port
    finally:
        tunnel.terminate()
        tunnel.wait()


@pytest.fixture(scope="module")
def devices(api: Api, agent2: Guest) -> Iterator[Devices]:
    for each in MACHINE.values():
        agent2.run(each.prepare)
    with made(api, agent2, EVERY) as devices:
        yield devices


def test_what_changes_on_the_machine_takes_its_key_within_seconds(
    devices: Devices, agent2: Guest
) -> None:
    """Nobody asks for a check: the agent sees what its policies name."""
    try:
        for each in MACHINE.values():
            agent2.run(each.turn)
        eventually("those that turned are closed", lambda: devices.closed() == MACHINE.keys())
        for criterion in MACHINE:
            print(criterion, devices.why(criterion)["explanation"])
    finally:
        for each in MACHINE.values():
            agent2.run(each.mend)
    eventually("they are open again", lambda: not devices.closed())


def test_software_that_was_not_updated_for_long(devices: Devices, agent2: Guest) -> None:
    devices.judge("package", rule("patch_level.days_since_update", "at_most", 30))
    agent2.check_now()
    agent2.run(f"touch --no-create -d '40 days ago' {TRACES}")
    eventually("it is closed", lambda: "package" in devices.closed())
    assert devices.why("package")["value"] == 40
    agent2.run("touch /var/lib/dpkg/status")
    eventually("it is open again", lambda: not devices.closed())


def test_where_the_machine_says_that_it_is(devices: Devices, agent2: Guest) -> None:
    agent2.run(SETTINGS.format("moon"))
    eventually("it is closed", lambda: devices.closed() == {"region"})
    assert devices.why("region")["value"] == "moon"
    agent2.run(SETTINGS.format("lab"))
    eventually("it is open again", lambda: not devices.closed())


def test_what_the_machine_was_booted_with(devices: Devices, agent2: Guest) -> None:
    """Secure Boot switched off, the TPM pulled out, and a word more on the kernel command line."""
    wrong = {
        "package": rule("secure_boot.enabled", "is", True),
        "user": rule("tpm.present", "is", True),
        "listener": rule("tpm.version", "equals", "2.0"),
    }
    for criterion, each in wrong.items():
        devices.judge(criterion, each)
    agent2.boot(secure_boot=True, tpm=True)
    eventually("all are open", lambda: not devices.closed())
    said = agent2.run("sha256sum </proc/cmdline").split()[0]
    wrong["file"] = rule("kernel.command_line_digest", "equals", f"sha256:{said}")
    register = agent2.run("cat /sys/class/tpm/tpm0/pcr-sha256/7").strip().lower()
    wrong["enabled-unit"] = rule("tpm_pcrs.7", "equals", f"sha256:{register}")
    for criterion in ("file", "enabled-unit"):
        devices.judge(criterion, wrong[criterion])
    agent2.boot("single-minded", secure_boot=False)
    for criterion in wrong:
        agent2.until(devices.name(criterion), "closed", outcome="denied")
    eventually("the others are open", lambda: devices.closed() == wrong.keys())
    for criterion, value in {"package": False, "user": False, "listener": None}.items():
        assert devices.why(criterion)["value"] is value
    agent2.boot(secure_boot=True, tpm=True)
    eventually("they are open again", lambda: not devices.closed())


def test_what_the_server_knows_of_a_device(devices: Devices, agent2: Guest) -> None:
    devices.register("access-type", read_only=True, initialise="never")
    devices.register("mount-point", mount_point="/mnt/criterion")
    agent2.check_now()
    eventually("both are closed", lambda: devices.closed() == {"access-type", "mount-point"})
    assert devices.why("access-type")["value"] == "read-only"
    assert devices.why("mount-point")["value"] == "/mnt/criterion"
    devices.register("access-type")
    devices.register("mount-point", mount_point="/srv/criterion")
    agent2.check_now()
    eventually("both are open again", lambda: not devices.closed())


def test_where_a_request_comes_from(
    devices: Devices, agent2: Guest, server: Machine, server_port: int
) -> None:
    with another_way(server) as port:
        agent2.machine.reach(port)
        agent2.check_now()
        eventually("it is closed", lambda: devices.closed() == {"source"})
        assert devices.why("source")["value"] == "127.0.0.1"
        agent2.machine.reach(server_port)
    agent2.check_now()
    eventually("it is open again", lambda: not devices.closed())


@pytest.mark.together
def test_time_as_the_server_knows_it(api: Api, agent2: Guest, server: Machine) -> None:
    """The others would notice another clock on the server, too."""
    days = server.ssh("date -u +%A; date -u -d tomorrow +%A").lower().split()
    window = {"from": "00:00", "to": "24:00", "weekdays": days}
    names = {
        "window": rule("request.time", "in_window", window),
        "weekday": rule("request.weekday", "one_of", days),
        "first-seen": rule("request.first_seen_hours", "at_most", 24),
        "clock-skew": rule("request.clock_skew_seconds", "between", [-600, 600]),
    }
    with made(api, agent2, names) as devices:
        server.ssh("date --set '+3 days'")
        try:
            agent2.check_now()
            eventually("they are closed", lambda: devices.closed() == names.keys())
            for criterion in names:
                print(criterion, devices.why(criterion)["explanation"])
        finally:
            server.ssh("date --set '-3 days'")
        agent2.check_now()
        eventually("they are open again", lambda: not devices.closed())
