"""Changes on made-up machines, and that everything else is none."""

import importlib
import os
from pathlib import Path

import pytest
from securecloud_agent.probes.collect import PROBES
from securecloud_agent.probes.context import Context
from securecloud_agent.probes.watch import LONGEST_UNREST, WATCHED, FactWatch
from securecloud_protocol.messages import FactRequest

LISTENING = "  sl\n   0: 0100007F:{port:04X} 00000000:0000 0A 0:0 00:0 0 0 0 77 1\n"


def put(root: Path, path: str, content: str) -> None:
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content)


def listen(root: Path, port: int) -> None:
    put(root, "/proc/net/tcp", LISTENING.format(port=port))


CHANGES = {
    "users": lambda root: put(root, "/etc/passwd", "root:x:0:0::/:/bin/sh\nme:x:1:1::/:/bin/sh\n"),
    "host_name": lambda root: put(root, "/proc/sys/kernel/hostname", "other\n"),
    "os": lambda root: put(root, "/etc/os-release", "ID=other\n"),
    "packages": lambda root: put(root, "/var/lib/dpkg/status", "Package: x\n"),
    "patch_level": lambda root: put(root, "/run/reboot-required", ""),
    "anti_malware": lambda root: put(root, "/var/lib/clamav/daily.cld", "new"),
    "mandatory_access_control": lambda root: put(root, "/sys/fs/selinux/enforce", "0\n"),
    "enabled_units": lambda root: (root / "etc/systemd/system/a.wants/x.service").symlink_to("x"),
    "file_digests": lambda root: (root / "etc/app.conf").unlink(),
    "network_services": lambda root: listen(root, 8080),
}
ARGS = {"file_digests": ("/etc/app.conf", "/etc/../etc/shadow")}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    put(tmp_path, "/etc/passwd", "root:x:0:0::/:/bin/sh\n")
    put(tmp_path, "/proc/sys/kernel/hostname", "web1\n")
    put(tmp_path, "/etc/os-release", "ID=debian\n")
    put(tmp_path, "/etc/app.conf", "a")
    put(tmp_path, "/etc/systemd/system/a.wants/.keep", "")
    put(tmp_path, "/sys/fs/selinux/enforce", "1\n")
    listen(tmp_path, 22)
    return tmp_path


def watch(root: Path, *names: str) -> FactWatch:
    return FactWatch([FactRequest(name, ARGS.get(name, ())) for name in names], Context(root))


def test_every_watched_fact_has_a_change_here():
    assert CHANGES.keys() == WATCHED
    assert WATCHED <= PROBES


@pytest.mark.parametrize("name", sorted(WATCHED))
def test_change_is_noticed_when_it_has_come_to_rest(root, name):
    watched = watch(root, *sorted(WATCHED))
    assert watched.changed(0) == []
    CHANGES[name](root)
    assert watched.changed(5) == []
    # A package that changes is an update, too.
    assert watched.changed(10) == [name, *(["patch_level"] if name == "packages" else [])]


@pytest.mark.parametrize("cache", ["dnf", "libdnf5"])
def test_metadata_that_dnf_has_fetched_are_news_of_the_patch_level(root, cache):
    index = f"/var/cache/{cache}/updates-1/repodata/repomd.xml"
    put(root, index, "old")
    watched = watch(root, "patch_level")
    # As dnf does whenever it reads.
    put(root, f"/var/cache/{cache}/metadata_lock.pid", "1")
    assert watched.changed(5) == []
    assert watched.changed(10) == []
    put(root, index, "newer")
    watched.changed(15)
    assert watched.changed(20) == ["patch_level"]


def test_change_that_is_taken_back_is_none(root):
    watched = watch(root, "network_services")
    listen(root, 8080)
    assert watched.changed(5) == []
    listen(root, 22)
    assert watched.changed(10) == []
    assert watched.changed(15) == []


def test_what_does_not_rest_is_told_in_the_end(root):
    watched = watch(root, "network_services")
    told = []
    for second in range(0, 60, 5):
        listen(root, 8000 + second)
        if watched.changed(second):
            told.append(second)
    assert told[0] == LONGEST_UNREST


def test_file_with_its_old_length_and_its_old_time_is_noticed(root):
    """As when somebody replaces a program and then sets its times."""
    file = root / "etc/app.conf"
    before = file.stat()
    watched = watch(root, "file_digests")
    file.write_text("b")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    watched.changed(5)
    assert watched.changed(10) == ["file_digests"]


def test_facts_that_only_ever_grow_are_not_watched(root):
    assert not watch(root, "boot", "kernel", "tpm", "tpm_pcrs", "secure_boot", "astrology")
    assert watch(root, "users")


def test_what_cannot_be_read_is_something_to_compare_too(root):
    put(root, "/proc/net/tcp", "  sl\n   0: XYZ:0016 00000000:0000 0A 0:0 00:0 0 0 0 77 1\n")
    watched = watch(root, "network_services")
    listen(root, 22)
    watched.changed(5)
    assert watched.changed(10) == ["network_services"]


@pytest.mark.parametrize("name", sorted(WATCHED))
def test_an_empty_machine_can_be_watched(tmp_path, name):
    assert watch(tmp_path, name).changed(1) == []
    assert hasattr(importlib.import_module(f"securecloud_agent.probes.{name}"), "glance")
