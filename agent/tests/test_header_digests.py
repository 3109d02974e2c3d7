"""The server knows each LUKS header, so that no key goes to another one."""

import base64
import hashlib
import json
import os
import subprocess
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from securecloud_agent.main import claims, passes
from securecloud_agent.state.memory import Memory
from securecloud_agent.volumes.header import COPY_BYTES
from securecloud_agent.volumes.source import header_on
from securecloud_agent.volumes.volumes import Volumes
from securecloud_protocol.errors import ErrorCode
from securecloud_protocol.transcript import volume_key_digest

from .test_rotation import opens, reboot, unlock

pytestmark = pytest.mark.usefixtures("no_mapper")


@pytest.fixture
def source(home, enrolled, device, capsys) -> Path:
    unlock(home, capsys)
    return Path(device.volume.source)


def dump(source: Path) -> dict:
    command = ["cryptsetup", "luksDump", "--dump-json-metadata", str(source)]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)


def relabel(source: Path) -> None:
    """Change the header in a way that the agent itself has nothing against."""
    command = ["cryptsetup", "config", "--label=other", str(source)]
    subprocess.run(command, check=True, capture_output=True)


def claimed(management):
    return management.evidence[-1].devices[0].header


def test_digest_and_volume_key_are_as_specified(source):
    area = dump(source)["keyslots"]["0"]["area"]
    end = int(area["offset"]) + int(area["size"])
    found = header_on(source)
    assert found.digest == hashlib.sha256(source.read_bytes()[:end]).digest()
    assert not found.changing
    says = dump(source)["digests"]["0"]
    octets = (base64.b64decode(says[name]) for name in ("salt", "digest"))
    assert found.volume_key == volume_key_digest(*octets)


@pytest.mark.parametrize(
    ("places", "octets"),
    [((448, 16384 + 448), b"x"), ((0,), b"LUKS\xba\xbe" + bytes(200))],
    ids=["a damaged one", "a torn one"],
)
def test_one_that_is_not_sound_is_known_by_all_that_it_may_take_up(source, places, octets):
    with source.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(octets)
    found = header_on(source)
    assert found.digest == hashlib.sha256(source.read_bytes()[:COPY_BYTES]).digest()
    assert found.volume_key is None


def test_a_disk_that_does_not_answer_keeps_nobody_from_their_keys(
    home, management, source, monkeypatch, capsys
):
    """Its device is left alone until the next pass."""
    stuck = threading.Event()
    monkeypatch.setattr(claims, "_DISK_SECONDS", 0.1)
    reboot(home)
    with monkeypatch.context() as patch:
        patch.setattr(Volumes, "header", lambda *_: stuck.wait(60))
        patch.setattr(passes, "DeviceWork", lambda *_: pytest.fail("nobody may wait for it"))
        _, result, _ = unlock(home, capsys)
        stuck.set()
    assert claimed(management) is None
    (device,) = result["devices"]
    assert (device["outcome"], device["detail"]) == ("failed", "its disk does not answer")
    assert management.acks[-1].results[0].result == "failed"
    assert unlock(home, capsys)[1]["devices"][0]["volume"] == "verified"


def test_an_open_volume_follows_the_decision_though_its_disk_does_not_answer(
    home, device, management, source, monkeypatch, capsys
):
    """Here its key is asked for once more; had it been denied, it would have to be locked."""
    stuck = threading.Event()
    device.successor = os.urandom(64)
    monkeypatch.setattr(claims, "_DISK_SECONDS", 0.1)
    monkeypatch.setattr(Volumes, "header", lambda *_: stuck.wait(60))
    _, result, _ = unlock(home, capsys)
    stuck.set()
    assert "renew" in [each.devices[0].want for each in management.evidence]
    assert result["devices"][0]["outcome"] == "granted"
    assert "failed" not in [each.results[0].result for each in management.acks]


def test_what_is_no_header_has_none(tmp_path, blank_file):
    assert header_on(blank_file) is None
    assert header_on(tmp_path / "none") is None
    assert header_on(tmp_path) is None


def test_it_is_told_with_the_ack_and_claimed_at_the_next_boot(
    home, device, management, source, capsys
):
    assert claimed(management) is None, "it was blank"
    told = management.acks[-1].results[0].header
    assert told == header_on(source) == device.header
    reboot(home)
    assert unlock(home, capsys)[0] == 0
    assert claimed(management) == told
    unlock(home, capsys)
    assert (management.evidence[-1].devices[0].want, claimed(management)) == ("check", None)


def test_another_header_gets_no_key_and_the_copy_brings_the_right_one_back(
    home, device, management, source, capsys
):
    relabel(source)
    assert opens(str(source), device.key)
    reboot(home)
    status, result, _ = unlock(home, capsys)
    detail = result["devices"][0]["detail"]
    assert (status, result["devices"][0]["code"]) == (4, "header_changed")
    assert "is not the one that the device opened with" in detail
    command = detail.split("`")[1].split()
    subprocess.run([*command, "--batch-mode"], check=True, capture_output=True)
    assert header_on(source) == device.header
    assert unlock(home, capsys)[0] == 0


def test_what_is_wrong_with_a_refused_header_is_said(home, device, source, tmp_path, capsys):
    another = tmp_path / "another"
    another.write_bytes(bytes(64))
    command = ["cryptsetup", "luksAddKey", "--batch-mode", "--key-file=-", str(source)]
    subprocess.run([*command, str(another)], input=device.key, check=True, capture_output=True)
    reboot(home)
    _, result, _ = unlock(home, capsys)
    assert result["devices"][0]["code"] == "header_changed"
    assert "the number of key slots is 2" in result["devices"][0]["detail"]


def test_a_machine_that_cannot_see_the_disk_compares_when_it_does(
    home, device, management, source, capsys
):
    """Its memory is gone: it hears with the key where the disk is."""
    relabel(source)
    Memory(home.state).forget_device("data")
    reboot(home)
    status, result, _ = unlock(home, capsys)
    assert claimed(management) is None
    assert (status, result["devices"][0]["code"]) == (1, "volume")
    assert "is not the one that the device opened with" in result["devices"][0]["detail"]
    told = management.acks[-1].results[0]
    assert (told.result, told.header) == ("failed", header_on(source))
    assert device.header != told.header


def test_a_disk_that_is_exchanged_while_the_server_decides_is_refused(
    home, device, management, listener, source, capsys
):
    reboot(home)
    listener.faults = [None, lambda: relabel(source)]
    status, result, _ = unlock(home, capsys)
    assert claimed(management) == device.header
    assert (status, result["devices"][0]["code"]) == (1, "volume")
    assert "is not the one that the device opened with" in result["devices"][0]["detail"]


def test_while_key_slots_change_the_volume_key_counts(home, device, source, capsys):
    device.header = replace(device.header, changing=True)
    relabel(source)
    reboot(home)
    assert unlock(home, capsys)[0] == 0
    assert device.header == header_on(source)
    assert not device.header.changing


def test_the_server_gets_a_copy_that_cryptsetup_restores(
    home, device, listener, source, tmp_path, capsys
):
    area = dump(source)["keyslots"]["0"]["area"]
    end = int(area["offset"]) + int(area["size"])
    whole = source.read_bytes()[:COPY_BYTES]
    assert device.copy == whole[:end]
    with source.open("r+b") as file:
        file.write(os.urandom(end))
    backup = tmp_path / "backup"
    command = ["cryptsetup", "luksHeaderRestore", "--batch-mode", f"--header-backup-file={backup}"]
    backup.write_bytes(device.copy)
    short = subprocess.run([*command, str(source)], capture_output=True, check=False)
    assert short.returncode != 0, "shorter than the header's area"
    # As the server gives it out.
    backup.write_bytes(device.copy.ljust(COPY_BYTES, b"\0"))
    subprocess.run([*command, str(source)], capture_output=True, check=True)
    assert header_on(source) == device.header
    reboot(home)
    assert unlock(home, capsys)[0] == 0
    assert listener.requests.count(("POST", "/agent/v1/copy")) == 1, "the server has it already"


def test_a_rotation_ends_with_a_new_copy(home, device, management, source, capsys):
    device.successor = os.urandom(64)
    unlock(home, capsys)
    assert hashlib.sha256(device.copy).digest() == device.header.digest == header_on(source).digest


def test_a_copy_that_cannot_be_sent_is_asked_for_again(home, enrolled, device, listener, capsys):
    listener.faults = [None, None, None, ErrorCode.INTERNAL]
    status, _, err = unlock(home, capsys)
    assert status == 0
    assert "the server has no copy of its LUKS header" in err
    assert device.copy is None
    reboot(home)
    unlock(home, capsys)
    assert hashlib.sha256(device.copy).digest() == device.header.digest
