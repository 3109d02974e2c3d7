"""A key is replaced: at each moment one that the server releases opens the volume."""

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from securecloud_agent.main import device as work
from securecloud_agent.main import main, wiring
from securecloud_agent.state import memory
from securecloud_agent.state.files import StateError
from securecloud_agent.state.memory import Memory, Rotation
from securecloud_agent.volumes import header_copies
from securecloud_agent.volumes.source import header_on
from securecloud_protocol import messages as wire

pytestmark = pytest.mark.usefixtures("no_mapper")


def unlock(home, capsys):
    status = main(["--config", str(home.config), "unlock", "--json"])
    captured = capsys.readouterr()
    return status, json.loads(captured.out), captured.err


def opens(source: str, key: bytes, slot: int | None = None) -> bool:
    by = [] if slot is None else [f"--key-slot={slot}"]
    command = ["cryptsetup", "open", "--test-passphrase", "--key-file=-", *by, source]
    return subprocess.run(command, input=key, capture_output=True, check=False).returncode == 0


def slots(source: str) -> list[str]:
    command = ["cryptsetup", "luksDump", "--dump-json-metadata", source]
    dump = subprocess.run(command, capture_output=True, check=True).stdout
    return sorted(json.loads(dump)["keyslots"])


@pytest.fixture
def source(home, enrolled, device, capsys) -> str:
    unlock(home, capsys)
    return device.volume.source


@pytest.fixture
def old(device, source) -> bytes:
    """The key that the volume opens with so far; from now on it is to be replaced."""
    device.successor = os.urandom(wire.DEVICE_KEY_BYTES)
    return device.key


def is_whole(device, source: str, old: bytes) -> bool:
    """Say whether the volume has just the key that the server releases."""
    return len(slots(source)) == 1 and opens(source, device.key) and not opens(source, old)


def test_an_open_volume_gets_its_new_key_in_one_go(
    home, device, management, source, old, forgotten, capsys
):
    forgotten.clear()
    new = device.successor
    status, result, _ = unlock(home, capsys)
    assert (status, result["changed"]) == (0, True)
    wanted = [claim.want for evidence in management.evidence for claim in evidence.devices]
    assert wanted == ["key", "check", "renew", "check"]
    added, wiped = (ack.results[0] for ack in management.acks[1:])
    assert (added.result, added.key_version) == ("verified", 2)
    assert "it opens with version 2 of its key as well" in added.detail
    assert (added.header.changing, added.header.volume_key) == (True, device.header.volume_key)
    assert (wiped.result, wiped.key_version) == ("verified", 2)
    assert wiped.detail == "it opens with version 2 of its key alone"
    assert wiped.header == device.header == header_on(Path(source))
    assert not device.header.changing
    assert (device.key, device.version, device.successor) == (new, 2, None)
    assert is_whole(device, source, old)
    assert set(forgotten) == {old, new}
    assert Memory(home.state).rotation("data") is None
    assert Memory(home.state).device("data").key_version == 2
    _, result, _ = unlock(home, capsys)
    assert not result["changed"]
    assert len(management.evidence) == 5


def test_a_volume_that_is_opened_gets_its_new_key(home, device, management, source, old, capsys):
    reboot(home)
    status, result, _ = unlock(home, capsys)
    assert (status, result["devices"][0]["code"]) == (0, "approved")
    assert is_whole(device, source, old)
    assert len(management.acks) == 3


def reboot(home) -> None:
    for mark in (home.folder / "run" / "agent").glob("verified-*"):
        mark.unlink()


def test_again_and_again(home, device, source, capsys):
    for _ in range(3):
        old, device.successor = device.key, os.urandom(wire.DEVICE_KEY_BYTES)
        unlock(home, capsys)
        assert is_whole(device, source, old)
    assert device.version == 4


def test_the_copy_of_the_header_opens_with_the_new_key_alone(home, device, source, old, capsys):
    unlock(home, capsys)
    copy = str(home.state / "headers" / "data.luks")
    assert opens(copy, device.key)
    assert not opens(copy, old)


@pytest.mark.parametrize("boots", [False, True])
def test_a_server_that_was_set_back_into_the_rotation_is_told_once_more(
    home, device, source, old, capsys, boots
):
    unlock(home, capsys)
    new = device.key
    device.key, device.version, device.successor = old, 1, new
    if boots:
        reboot(home)
    status, result, _ = unlock(home, capsys)
    assert (status, result["devices"][0]["volume"]) == (0, "verified")
    assert (device.key, device.version) == (new, 2)
    assert is_whole(device, source, old)


def test_what_the_successor_opened_is_told_with_its_version_though_no_slot_can_be_written(
    home, device, management, source, old, capsys
):
    unlock(home, capsys)
    new = device.key
    device.key, device.version, device.successor = old, 1, new
    device.volume = replace(device.volume, read_only=True)
    reboot(home)
    _, result, _ = unlock(home, capsys)
    assert result["devices"][0]["volume"] == "verified"
    assert management.acks[-1].results[0].key_version == 2
    assert (device.key, device.version) == (new, 2)
    assert Memory(home.state).device("data").key_version == 2


def test_a_server_that_was_set_back_before_the_rotation_is_noticed(
    home, device, source, old, capsys
):
    unlock(home, capsys)
    new, device.key, device.version = device.key, old, 1
    _, _, err = unlock(home, capsys)
    assert "releases version 1 of its key, this volume opens with version 2" in err
    reboot(home)
    _, result, _ = unlock(home, capsys)
    assert "formatted with another key, or replaced" in result["devices"][0]["detail"]
    assert opens(source, new)


def test_the_copy_of_the_header_opens_with_both_keys_until_one_is_released(
    home, device, listener, source, old, capsys
):
    listener.faults = [None, None, None, None, "drop after", *["drop"] * 12]
    unlock(home, capsys)
    copy = str(home.state / "headers" / "data.luks")
    assert opens(copy, device.key)
    assert opens(copy, old)


def test_no_copy_of_the_header_is_better_than_an_old_one(
    home, device, listener, source, old, monkeypatch, capsys
):
    listener.faults = [None, None, None, None, "drop after", *["drop"] * 12]
    unlock(home, capsys)
    listener.faults.clear()

    def full(*_):
        raise StateError("headers/data.luks cannot be written: No space left on device")

    monkeypatch.setattr(header_copies, "write_file", full)
    _, _, err = unlock(home, capsys)
    assert "no copy of its LUKS header was kept" in err
    assert is_whole(device, source, old)
    assert not (home.state / "headers" / "data.luks").exists()


def test_a_disk_that_comes_and_goes_in_the_middle(home, device, listener, source, old, capsys):
    """Where it is on iSCSI, nothing but its place is remembered before it is connected."""
    listener.faults = [None, None, None, None, "drop after", *["drop"] * 12]
    unlock(home, capsys)
    listener.faults.clear()
    known = Memory(home.state).device("data")
    Memory(home.state).remember_device("data", replace(known, luks_uuid=None))
    reboot(home)
    _, result, _ = unlock(home, capsys)
    assert result["devices"][0]["volume"] == "verified"
    assert is_whole(device, source, old)


def test_the_old_key_stays_until_the_server_took_the_word(
    home, device, management, listener, source, old, capsys
):
    listener.faults = [None, None, None, None, *["drop"] * 12]
    _, _, err = unlock(home, capsys)
    assert "could not be told" in err
    assert device.version == 1
    assert slots(source) == ["0", "1"]
    assert opens(source, old)
    assert opens(source, device.successor)
    listener.faults.clear()
    unlock(home, capsys)
    assert is_whole(device, source, old)


def test_the_old_key_goes_when_only_the_receipt_was_lost(
    home, device, listener, source, old, capsys
):
    listener.faults = [None, None, None, None, "drop after", *["drop"] * 12]
    unlock(home, capsys)
    assert device.version == 2
    assert slots(source) == ["0", "1"]
    listener.faults.clear()
    status, result, _ = unlock(home, capsys)
    assert (status, result["devices"][0]["code"], result["changed"]) == (0, "checked", True)
    assert is_whole(device, source, old)


def test_a_receipt_says_nothing_of_the_successor(
    home, device, management, source, old, monkeypatch, capsys
):
    """The rotation is given up while the word of the new key is on its way."""
    take = management._ack

    def give_up_and_take(body):
        device.successor = None
        return take(body)

    monkeypatch.setattr(management, "_ack", give_up_and_take)
    unlock(home, capsys)
    assert device.version == 1
    assert is_whole(device, source, os.urandom(64))
    assert slots(source) == ["0"]


def test_what_is_told_as_failed_gets_no_new_key(home, device, source, old, monkeypatch, capsys):
    monkeypatch.setattr(work, "_ack_word", lambda *_: "failed")
    unlock(home, capsys)
    assert slots(source) == ["0"]


def test_a_header_that_was_cut_in_the_middle_of_its_change_is_repaired(
    home, device, listener, source, old, capsys
):
    """A power cut between the writing of the first header and of the second."""
    before = Path(source).read_bytes()[: 32 * 1024]
    listener.faults = [None, None, None, None, *["drop"] * 12]
    unlock(home, capsys)
    listener.faults.clear()
    with Path(source).open("r+b") as file:
        file.seek(16 * 1024)
        file.write(before[16 * 1024 :])
    reboot(home)
    status, result, _ = unlock(home, capsys)
    assert (status, result["devices"][0]["volume"]) == (0, "verified")
    assert is_whole(device, source, old)
    both = Path(source).read_bytes()[: 32 * 1024]
    assert both[4096 : 16 * 1024] == both[20 * 1024 : 32 * 1024]


def test_a_header_with_halves_is_refused_when_no_key_is_replaced(home, device, source, capsys):
    before = Path(source).read_bytes()[16 * 1024 : 32 * 1024]
    device.successor = os.urandom(wire.DEVICE_KEY_BYTES)
    unlock(home, capsys)
    with Path(source).open("r+b") as file:
        file.seek(16 * 1024)
        file.write(before)
    reboot(home)
    _, result, _ = unlock(home, capsys)
    assert "its two headers differ" in result["devices"][0]["detail"]


def test_a_slot_that_was_changed_since_its_proof_keeps_the_other_one(
    home, device, listener, source, old, capsys
):
    listener.faults = [None, None, None, None, "drop after", *["drop"] * 12]
    unlock(home, capsys)
    listener.faults.clear()
    area = area_of(source, "1")
    with Path(source).open("r+b") as file:
        file.seek(area)
        whole = file.read(16)
        file.seek(area)
        file.write(bytes(16))
    status, _, err = unlock(home, capsys)
    assert (status, slots(source)) == (0, ["0", "1"])
    assert "key slot 1" in err
    assert "is not as it was when it was proved" in err
    with Path(source).open("r+b") as file:
        file.seek(area)
        file.write(whole)
    unlock(home, capsys)
    assert is_whole(device, source, old)


def area_of(source: str, slot: str) -> int:
    command = ["cryptsetup", "luksDump", "--dump-json-metadata", source]
    dump = subprocess.run(command, capture_output=True, check=True).stdout
    return int(json.loads(dump)["keyslots"][slot]["area"]["offset"])


def test_a_device_that_goes_and_comes_back_in_between(
    home, device, management, listener, source, old, capsys
):
    listener.faults = [None, None, None, None, *["drop"] * 12]
    unlock(home, capsys)
    listener.faults.clear()
    Memory(home.state).forget_device("data")
    reboot(home)
    status, result, _ = unlock(home, capsys)
    assert (status, result["devices"][0]["volume"]) == (0, "verified")
    assert is_whole(device, source, old)


def test_the_new_key_goes_when_the_rotation_was_given_up(
    home, device, listener, source, old, capsys
):
    listener.faults = [None, None, None, None, *["drop"] * 12]
    unlock(home, capsys)
    given_up, device.successor = device.successor, None
    listener.faults.clear()
    unlock(home, capsys)
    assert slots(source) == ["0"]
    assert opens(source, old)
    assert not opens(source, given_up)
    assert Memory(home.state).rotation("data") is None


def test_another_successor_takes_the_place_of_one_that_was_given_up(
    home, device, listener, source, old, capsys
):
    listener.faults = [None, None, None, None, *["drop"] * 12]
    unlock(home, capsys)
    given_up = device.successor
    device.successor, device.version = os.urandom(wire.DEVICE_KEY_BYTES), 2
    listener.faults.clear()
    # Here versions are counted from the one in use, so that one has to go up as well.
    known = Memory(home.state).rotation("data")
    Memory(home.state).remember_rotation("data", replace(known, version=9))
    unlock(home, capsys)
    assert is_whole(device, source, old)
    assert not opens(source, given_up)


class Killed(BaseException):
    """Nothing catches it."""


class Doors:
    """Counts what is done to the world, and ends the agent at one of the steps."""

    def __init__(self) -> None:
        self.passed = 0
        self.end_at: int | None = None

    def step(self) -> None:
        self.passed += 1
        if self.passed == self.end_at:
            raise Killed

    def around(self, work):
        def done(*arguments, **options):
            self.step()
            result = work(*arguments, **options)
            self.step()
            return result

        return done


@pytest.fixture
def doors(monkeypatch) -> Doors:
    doors = Doors()
    monkeypatch.setattr(wiring, "run", doors.around(wiring.run))
    for module, name in (
        (memory, "write_json"),
        (memory, "remove"),
        (header_copies, "write_file"),
    ):
        monkeypatch.setattr(module, name, doors.around(getattr(module, name)))
    return doors


def test_killed_at_any_step_a_released_key_opens_it(
    home, device, management, source, doors, capsys
):
    at, deaths = 0, 0
    while True:
        at += 1
        old, device.successor = device.key, os.urandom(wire.DEVICE_KEY_BYTES)
        doors.passed, doors.end_at = 0, at
        try:
            unlock(home, capsys)
            break
        except Killed:
            deaths += 1
        doors.end_at = None
        assert opens(source, device.key), at
        if at % 2:
            reboot(home)
            assert unlock(home, capsys)[1]["devices"][0]["volume"] == "verified", at
            assert not device.header.changing, at
        else:
            unlock(home, capsys)
        assert is_whole(device, source, old), at
    assert deaths > 15


def test_a_slot_that_nobody_knows_of_is_refused(home, device, source, capsys, tmp_path):
    another = tmp_path / "another"
    another.write_bytes(os.urandom(64))
    command = ["cryptsetup", "luksAddKey", "--batch-mode", "--key-file=-", source, str(another)]
    subprocess.run(command, input=device.key, check=True, capture_output=True)
    # The server would refuse it already.
    device.header = None
    reboot(home)
    _, result, _ = unlock(home, capsys)
    assert "the number of key slots is 2" in result["devices"][0]["detail"]
    device.successor = os.urandom(wire.DEVICE_KEY_BYTES)
    _, result, _ = unlock(home, capsys)
    assert result["devices"][0]["outcome"] == "failed"
    assert slots(source) == ["0", "1"]


def test_an_open_volume_whose_header_was_changed_keeps_its_key_and_tells(
    home, device, management, source, old, capsys
):
    whole = Path(source).read_bytes()[: 32 * 1024]
    with Path(source).open("r+b") as file:
        file.write(b"x" * 4096)
    status, result, err = unlock(home, capsys)
    assert (status, result["devices"][0]["outcome"]) == (0, "granted")
    assert "its key was not replaced" in err
    told = management.acks[-1].results[0]
    assert (told.key_version, "its key was not replaced" in told.detail) == (1, True)
    assert device.version == 1
    with Path(source).open("r+b") as file:
        file.write(whole)
    unlock(home, capsys)
    assert is_whole(device, source, old)


def test_the_last_slot_is_never_wiped(home, device, listener, source, old, capsys):
    """Somebody put a header back that has only the old slot."""
    before = Path(source).read_bytes()[: 16 * 1024 * 1024]
    listener.faults = [None, None, None, None, "drop after", *["drop"] * 12]
    unlock(home, capsys)
    with Path(source).open("r+b") as file:
        file.write(before)
    listener.faults.clear()
    status, _, err = unlock(home, capsys)
    assert status == 0
    assert "key slot 1" in err
    assert "Was the header restored from a copy?" in err
    assert opens(source, old)


def test_a_damaged_memory_of_it_is_told(home, device, source, capsys):
    Memory(home.state).remember_rotation("data", Rotation(2, "uuid", "0", "0", ""))
    status, result, _ = unlock(home, capsys)
    assert "rotations/data.json is damaged" in result["devices"][0]["detail"]
    assert status == 1


def test_a_read_only_volume_is_left_alone(home, device, management, source, old, capsys):
    known = Memory(home.state).device("data")
    Memory(home.state).remember_device("data", replace(known, read_only=True))
    unlock(home, capsys)
    assert [claim.want for claim in management.evidence[-1].devices] == ["check"]
    assert slots(source) == ["0"]
