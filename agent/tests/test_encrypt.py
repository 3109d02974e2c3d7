"""Encryption in place: real file systems in files, the real cryptsetup, real interruptions."""

import hashlib
import io
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from securecloud_agent import run as wrapper
from securecloud_agent.decide.model import Content, State
from securecloud_agent.errors import AgentError
from securecloud_agent.main import main, wiring
from securecloud_agent.main.passes import make_pass
from securecloud_agent.main.wiring import Clocks, make_agent
from securecloud_agent.run import Finished, follow, run
from securecloud_agent.state.files import StateError
from securecloud_agent.state.memory import BootMarks, Encryption, Memory
from securecloud_agent.volumes.encryptions import STOP, Encryptions, describe
from securecloud_agent.volumes.header import parse
from securecloud_agent.volumes.heading import room_on
from securecloud_agent.volumes.in_place import Hands, InPlace, Order, Progress, read_progress
from securecloud_agent.volumes.last_step import last_step, written
from securecloud_agent.volumes.source import look_at
from securecloud_agent.volumes.trouble import VolumeError
from securecloud_agent.volumes.volumes import HELD

MIB = 1024 * 1024
SIZE = 160 * MIB
HEADER = 16 * MIB


@pytest.fixture
def clocks(clock) -> Clocks:
    """Real time, for there are real threads and programs to wait for."""
    return Clocks(now=clock.now, monotonic=time.monotonic, pause=time.sleep, chance=lambda: 0.0)


@pytest.fixture
def files(tmp_path) -> dict[str, str]:
    """A tree of files, with their digests by path."""
    tree = tmp_path / "tree"
    (tree / "deep").mkdir(parents=True)
    found = {}
    for number in range(40):
        path = f"deep/file{number}"
        content = random.Random(number).randbytes(number * 50_000)
        (tree / path).write_bytes(content)
        found[path] = hashlib.sha256(content).hexdigest()
    return found


def make_ext4(path: Path, tree: Path, size: int = SIZE, blocks: int = 4096) -> None:
    with path.open("wb") as file:
        file.truncate(size)
    command = ["mkfs.ext4", "-q", "-b", str(blocks), "-d", str(tree), str(path)]
    subprocess.run(command, check=True)


@pytest.fixture
def disk(tmp_path, files, device) -> Path:
    """The device's source, with an ext4 that fills it."""
    path = Path(device.volume.source)
    make_ext4(path, tmp_path / "tree")
    device.volume = replace(device.volume, initialise="never")
    return path


def decrypted(disk: Path, key: bytes, target: Path) -> Path:
    """Decrypt as dm-crypt would (aes-xts-plain64), without a kernel that can."""
    master, passphrase = target.with_suffix(".master"), target.with_suffix(".key")
    passphrase.write_bytes(key)
    command = ["cryptsetup", "luksDump", "--batch-mode", "--dump-volume-key"]
    subprocess.run(
        [*command, f"--volume-key-file={master}", f"--key-file={passphrase}", str(disk)],
        check=True,
        capture_output=True,
    )
    (segment,) = metadata(disk)["segments"].values()
    sector, offset = segment["sector_size"], int(segment["offset"])
    algorithm = algorithms.AES(master.read_bytes())
    with disk.open("rb") as source, target.open("wb") as plain:
        source.seek(offset)
        number = 0
        while chunk := source.read(sector):
            tweak = (number * (sector // 512)).to_bytes(16, "little")
            plain.write(Cipher(algorithm, modes.XTS(tweak)).decryptor().update(chunk))
            number += 1
    return target


def metadata(disk: Path) -> dict:
    command = ["cryptsetup", "luksDump", "--dump-json-metadata", str(disk)]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def digests(plain: Path, target: Path) -> dict[str, str]:
    subprocess.run(["e2fsck", "-f", "-n", str(plain)], check=True, capture_output=True)
    target.mkdir()
    command = ["debugfs", "-R", f"rdump / {target}", str(plain)]
    subprocess.run(command, check=True, capture_output=True)
    return {
        str(path.relative_to(target)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in target.rglob("file*")
    }


def encrypt(home, capsys, *arguments: str) -> tuple[int, dict, str]:
    capsys.readouterr()
    status = main(["--config", str(home.config), "encrypt", "data", "--json", *arguments])
    captured = capsys.readouterr()
    return status, json.loads(captured.out) if captured.out else {}, captured.err


def test_a_file_system_is_encrypted_with_its_data(
    home, enrolled, device, disk, files, no_mapper, capsys, tmp_path, management
):
    status, result, told = encrypt(home, capsys)
    assert (status, result["changed"], result["volume"]) == (0, True, "verified")
    assert (result["progress"]["phase"], result["progress"]["percent"]) == ("finished", 100.0)
    assert "encryption in place: 100.0 % of" in told
    assert digests(decrypted(disk, device.key, tmp_path / "plain"), tmp_path / "out") == files
    # The server learns of the volume once it is encrypted as a whole.
    assert disk.stat().st_size == SIZE
    (ack,) = management.acks
    assert ack.results[0].luks_uuid == look_at(disk, run).luks_uuid
    assert enrolled.memory.encryption("data") is None
    status, result, told = encrypt(home, capsys)
    assert (status, result["changed"]) == (0, False)


def needles(tmp_path) -> list[bytes]:
    """Pieces of the files, and of the beginning of the file system that cryptsetup moves."""
    files = [(tmp_path / "tree" / name).read_bytes() for name in ("deep/file20", "deep/file39")]
    return [content[at : at + 64] for content in files for at in (0, 500_000)] + [b"lost+found"]


def test_nothing_of_the_data_is_left_in_plain(
    home, enrolled, device, disk, files, no_mapper, capsys, tmp_path
):
    pieces = needles(tmp_path)
    assert all(each in disk.read_bytes() for each in pieces)
    encrypt(home, capsys)
    assert not [each for each in pieces if each in disk.read_bytes()]


@pytest.mark.parametrize(("blocks", "sector"), [(1024, 512), (4096, 4096)])
def test_sectors_are_as_large_as_the_file_system_allows(
    home, enrolled, device, disk, files, no_mapper, capsys, tmp_path, blocks, sector
):
    make_ext4(disk, tmp_path / "tree", blocks=blocks)
    assert encrypt(home, capsys)[0] == 0
    (segment,) = metadata(disk)["segments"].values()
    assert segment["sector_size"] == sector


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_one_line_changes(home, enrolled, device, disk, no_mapper, monkeypatch):
    terminal = Terminal()

    def shown_half_way(argv, *, secret, pass_fds, line, stop) -> Finished:
        line(
            b'{"device_bytes":"2097152","device_size":"4194304","speed":"1048576","eta_ms":"2000"}'
        )
        give_up = time.monotonic() + 20
        while "50.0 %" not in terminal.getvalue() and time.monotonic() < give_up:
            threading.Event().wait(0.05)
        return follow(argv, secret=secret, pass_fds=pass_fds, line=line, stop=stop)

    monkeypatch.setattr(wiring, "follow", shown_half_way)
    monkeypatch.setattr(sys, "stderr", terminal)
    assert main(["--config", str(home.config), "encrypt", "data"]) == 0
    line = "\r\x1b[Kdata: encryption in place: 50.0 % of 4 MiB, 1.0 MiB/s, 0:00:02 left"
    assert line in terminal.getvalue()


def test_check_mode_asks_for_no_key_and_changes_nothing(home, enrolled, device, disk, capsys):
    before = disk.read_bytes()
    status, result, _ = encrypt(home, capsys, "--check")
    assert (status, result["changed"], result["progress"]) == (0, True, None)
    assert disk.read_bytes() == before
    assert enrolled.memory.encryption("data") is None


# --- refusals


def refused(home, capsys, disk) -> str:
    before = hashlib.sha256(disk.read_bytes()).digest()
    status, _, told = encrypt(home, capsys)
    assert status == 1
    assert hashlib.sha256(disk.read_bytes()).digest() == before
    assert Memory(home.state).encryption("data") is None
    return told


@pytest.mark.parametrize(
    ("command", "detail"),
    [(["mkswap"], "holds swap"), (["mkfs.ext2", "-q"], "holds ext2, and the device is registered")],
)
def test_what_is_not_the_devices_file_system_is_refused(
    home, enrolled, device, disk, capsys, command, detail
):
    with disk.open("wb") as file:
        file.truncate(SIZE)
    subprocess.run([*command, str(disk)], check=True, capture_output=True)
    assert detail in refused(home, capsys, disk)


def test_unknown_data_is_refused(home, enrolled, device, disk, capsys):
    disk.write_bytes(os.urandom(MIB) + bytes(SIZE - MIB))
    assert "data of an unknown kind" in refused(home, capsys, disk)


def test_read_only_device_is_refused(home, enrolled, device, disk, capsys):
    device.volume = replace(device.volume, read_only=True)
    assert "read-only" in refused(home, capsys, disk)


def test_device_with_an_encrypted_volume_already_is_refused(home, enrolled, device, disk, capsys):
    device.volume = replace(device.volume, luks_uuid="11111111-2222-3333-4444-555555555555")
    assert "refusing to encrypt another one" in refused(home, capsys, disk)


def test_full_file_system_is_refused(home, enrolled, device, disk, capsys, tmp_path):
    (tmp_path / "tree/large").write_bytes(os.urandom(80 * MIB))
    make_ext4(disk, tmp_path / "tree")
    told = encrypt(home, capsys)[2]
    assert "could not be made smaller" in told
    assert "free 32 MiB" in told
    assert look_at(disk, run).detail == "ext4"


def test_xfs_that_fills_its_disk_is_refused_and_a_smaller_one_is_not(
    home, enrolled, device, disk, no_mapper, capsys, tmp_path
):
    device.volume = replace(device.volume, filesystem="xfs")
    with disk.open("wb") as file:
        file.truncate(320 * MIB)
    subprocess.run(["mkfs.xfs", "-q", str(disk)], check=True)
    assert "enlarge the disk by 32 MiB" in refused(home, capsys, disk)
    os.truncate(disk, 352 * MIB)
    assert encrypt(home, capsys)[0] == 0
    plain = decrypted(disk, device.key, tmp_path / "plain")
    subprocess.run(["xfs_repair", "-n", "-f", str(plain)], check=True, capture_output=True)


def test_damaged_file_system_is_refused(home, enrolled, device, disk, capsys):
    with disk.open("r+b") as file:
        for offset in range(0, 8 * MIB, 4096):
            file.seek(4096 + offset)
            file.write(os.urandom(4096))
    told = encrypt(home, capsys)[2]
    assert "e2fsck" in told
    assert look_at(disk, run).detail == "ext4"


def test_denied_is_not_remembered_and_pending_is(home, enrolled, device, disk, capsys):
    device.outcome, device.code = "denied", "policy"
    assert encrypt(home, capsys)[0] == 4
    assert enrolled.memory.encryption("data") is None
    device.outcome, device.code = "pending", "approval_required"
    status, _, told = encrypt(home, capsys)
    assert status == 3
    assert "as soon as the request is approved" in told
    assert enrolled.memory.encryption("data").phase == "asked"


def test_blank_volume_becomes_a_new_one_at_the_operators_word(
    home, enrolled, device, no_mapper, capsys
):
    device.volume = replace(device.volume, initialise="never")
    status, result, _ = encrypt(home, capsys)
    assert (status, result["volume"], result["progress"]) == (0, "verified", None)
    assert enrolled.memory.encryption("data") is None


def test_a_volume_that_was_locked_by_hand_is_not_held_any_more(
    home, enrolled, device, disk, no_mapper, capsys
):
    enrolled.marks.put(HELD, "data")
    assert encrypt(home, capsys)[1]["volume"] == "verified"


def test_refused_in_a_pass_of_the_service_it_is_forgotten_and_told(
    home, enrolled, device, disk, no_mapper, capsys
):
    """As after `encrypt --background`: nobody waits for the answer."""
    device.volume = replace(device.volume, filesystem="xfs")
    enrolled.encryptions.ask("data")
    assert unlock(home, capsys, enrolled) == ("failed", "closed")
    assert enrolled.memory.encryption("data") is None
    progress = enrolled.encryptions.progress("data")
    assert progress.phase == "failed"
    assert "registered with the file system xfs" in progress.detail


def test_a_disk_that_vanishes_is_told(home, enrolled, device, disk, no_mapper, capsys):
    def vanishing(argv, **given) -> Finished:
        disk.unlink()
        return Finished(1, b"", "Device does not exist.")

    enrolled.encryptions.ask("data")
    enrolled.encryptions._follow = vanishing
    work(enrolled, device)
    progress = enrolled.encryptions.progress("data")
    assert progress.phase == "failed"
    assert "does not exist" in progress.detail
    assert enrolled.memory.encryption("data").phase == "begun"


def test_it_goes_on_where_nobody_can_be_told(
    home, enrolled, device, disk, no_mapper, capsys, monkeypatch
):
    def full(path, value, mode=0o600):
        raise StateError(f"{path} cannot be written: No space left on device")

    enrolled.encryptions.ask("data")
    monkeypatch.setattr("securecloud_agent.volumes.encryptions.write_json", full)
    work(enrolled, device)
    assert look_at(disk, run).content is Content.LUKS


# --- interruptions


class Killing:
    """The real `follow`, whose program is killed after a while."""

    def __init__(self, after: float) -> None:
        self._after = after
        self.killed = 0

    def __call__(self, argv, *, secret, pass_fds, line, stop) -> Finished:
        begin = wrapper._begin

        def shortly(*arguments):
            process = begin(*arguments)
            timer = threading.Timer(self._after, self._kill, [process])
            timer.daemon = True
            timer.start()
            return process

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(wrapper, "_begin", shortly)
            return follow(argv, secret=secret, pass_fds=pass_fds, line=line, stop=stop)

    def _kill(self, process) -> None:
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            self.killed += 1


def test_killed_again_and_again_it_comes_to_its_end_with_its_data(
    home, enrolled, device, disk, files, no_mapper, capsys, tmp_path
):
    chance, pieces = random.Random(), needles(tmp_path)
    killed = 0
    enrolled.encryptions.ask("data")
    for _ in range(60):
        follower = Killing(chance.uniform(0.01, 0.2))
        agent = make_agent(home.config, enrolled.clocks)
        agent.encryptions._follow = follower
        work(agent, device)
        killed += follower.killed
        if look_at(disk, run).content is Content.LUKS:
            break
        assert look_at(disk, run).content is Content.UNFINISHED
    assert killed > 0
    status, _, told = encrypt(home, capsys)
    assert status == 0, told
    assert not [each for each in pieces if each in disk.read_bytes()]
    assert digests(decrypted(disk, device.key, tmp_path / "plain"), tmp_path / "out") == files


def work(agent, device) -> None:
    order = Order("data", Path(device.volume.source), "ext4")
    agent.encryptions.start(order, bytearray(device.key))
    for thread in agent.encryptions._threads:
        thread.join()


def test_killed_in_its_last_chunk_the_last_step_is_taken_for_cryptsetup(
    home, enrolled, device, disk, no_mapper, capsys
):
    """Put the disk into the state by hand: what cryptsetup's metadata says is from a real case."""
    begun(enrolled, device)
    copy = look_at(disk, run).header
    before = parse(copy).metadata
    final = {key: each for key, each in before["segments"]["4"].items() if key != "flags"}
    moved = before["segments"]["2"]
    digest = {**before["digests"]["0"], "segments": ["2", "0"]}
    segments = {
        "0": final,
        "1": before["segments"]["3"],
        "2": {**final, "flags": ["backup-final"]},
        "3": moved,
    }
    digests = {**before["digests"], "0": digest}
    with disk.open("r+b") as file:
        file.write(written(copy, {**before, "segments": segments, "digests": digests}))
        file.seek(int(moved["offset"]))
        plain = file.read(MIB)
        # By then the copy that was kept aside is encrypted over.
        file.seek(room_on(SIZE))
        file.write(os.urandom(HEADER))
    assert plain.strip(b"\0")

    def refusing(argv, *, secret, pass_fds, line, stop) -> Finished:
        return Finished(1, b"", "Failed to set device segments for next reencryption hotzone.")

    assert look_at(disk, run).content is Content.UNFINISHED
    agent = make_agent(home.config, enrolled.clocks)
    agent.encryptions._follow = refusing
    work(agent, device)
    sight = look_at(disk, run)
    assert (sight.content, sight.header_problem) == (Content.LUKS, None)
    assert plain not in disk.read_bytes()
    assert unlock(home, capsys, agent) == ("granted", "verified")


def test_before_the_last_step_none_is_taken(home, enrolled, device, disk, no_mapper, capsys):
    begun(enrolled, device)
    assert last_step(look_at(disk, run).header) is None


def test_power_cut_between_the_two_headers_is_recovered_from(
    home, enrolled, device, disk, files, no_mapper, capsys, tmp_path
):
    enrolled.encryptions.ask("data")
    enrolled.encryptions._follow = Killing(0.02)
    work(enrolled, device)
    old = disk.read_bytes()[:HEADER]
    again = make_agent(home.config, enrolled.clocks)
    again.encryptions._follow = Killing(0.1)
    work(again, device)
    with disk.open("r+b") as file:
        file.seek(16384)
        file.write(old[16384:32768])
    assert look_at(disk, run).content is Content.UNFINISHED
    assert encrypt(home, capsys)[0] == 0
    assert digests(decrypted(disk, device.key, tmp_path / "plain"), tmp_path / "out") == files


def test_told_to_stop_it_ends_in_order_and_goes_on_later(
    home, enrolled, device, disk, files, no_mapper, capsys, tmp_path
):
    def stopping(argv, *, secret, pass_fds, line, stop) -> Finished:
        enrolled.marks.put(STOP, "data")
        return follow(argv, secret=secret, pass_fds=pass_fds, line=line, stop=stop)

    enrolled.encryptions.ask("data")
    enrolled.encryptions._follow = stopping
    work(enrolled, device)
    progress = enrolled.encryptions.progress("data")
    if look_at(disk, run).content is Content.UNFINISHED:
        assert progress.phase == "stopped"
    assert encrypt(home, capsys)[0] == 0
    assert digests(decrypted(disk, device.key, tmp_path / "plain"), tmp_path / "out") == files


def begun(enrolled, device) -> None:
    enrolled.encryptions.ask("data")
    enrolled.encryptions._follow = Killing(0.0)
    work(enrolled, device)


def test_the_service_finishes_what_was_begun(home, enrolled, device, disk, no_mapper, capsys):
    begun(enrolled, device)
    agent = make_agent(home.config, enrolled.clocks)
    ended = threading.Event()
    agent.encryptions.on_end = ended.set
    status = unlock(home, capsys, agent)
    assert status == ("granted", "encrypting")
    assert ended.wait(60)
    assert unlock(home, capsys, agent) == ("granted", "verified")
    assert agent.memory.encryption("data") is None


def unlock(home, capsys, agent) -> tuple[str, str]:
    (outcome,) = make_pass(agent, ()).outcomes
    return outcome.outcome, outcome.volume


def test_half_encrypted_disk_of_another_machine_needs_the_operators_word(
    home, enrolled, device, disk, no_mapper, capsys
):
    begun(enrolled, device)
    enrolled.memory.remember_encryption("data", None)
    assert unlock(home, capsys, enrolled) == ("failed", "closed")
    assert "not by this machine" in home.status()["devices"]["data"]["detail"]
    assert encrypt(home, capsys)[0] == 0


def test_another_half_encrypted_disk_in_its_place_is_refused(
    home, enrolled, device, disk, no_mapper, capsys
):
    begun(enrolled, device)
    other = Encryption("99999999-2222-3333-4444-555555555555", "begun")
    enrolled.memory.remember_encryption("data", other)
    assert unlock(home, capsys, enrolled) == ("failed", "closed")
    assert "is pinned" in home.status()["devices"]["data"]["detail"]


def test_plain_data_in_the_place_of_what_was_begun_is_refused(
    home, enrolled, device, disk, no_mapper, capsys, tmp_path
):
    begun(enrolled, device)
    make_ext4(disk, tmp_path / "tree")
    assert unlock(home, capsys, enrolled) == ("failed", "closed")
    assert look_at(disk, run).detail == "ext4"


def test_denied_while_it_is_encrypted_stops_it(home, enrolled, device, disk, no_mapper, capsys):
    release, holding = threading.Event(), threading.Event()

    def slow(argv, *, secret, pass_fds, line, stop) -> Finished:
        holding.set()
        while not stop():
            release.wait(0.05)
        return Finished(1, b"", "Interrupted by a signal.")

    enrolled.encryptions.ask("data")
    enrolled.encryptions._follow = slow
    assert unlock(home, capsys, enrolled) == ("granted", "encrypting")
    assert holding.wait(10)
    assert enrolled.encryptions.running("data")
    assert enrolled.volumes().state("data") is State.ENCRYPTING
    device.outcome, device.code = "denied", "policy"
    assert unlock(home, capsys, enrolled) == ("denied", "closed")
    assert enrolled.encryptions.progress("data").phase == "stopped"
    device.outcome, device.code = "granted", "approved"
    enrolled.encryptions._follow = follow
    assert unlock(home, capsys, enrolled) == ("granted", "encrypting")
    for thread in enrolled.encryptions._threads:
        thread.join()
    assert look_at(disk, run).content is Content.LUKS


def test_only_one_at_a_time(enrolled, device, disk):
    enrolled.encryptions.ask("data")
    other = Encryptions(enrolled.memory, enrolled.marks, run, follow)
    lock = other._take("data")
    try:
        with pytest.raises(AgentError, match="being encrypted already"):
            Encryptions(enrolled.memory, enrolled.marks, run, follow, *_no_patience()).start(
                Order("data", disk, "ext4"), bytearray(64)
            )
    finally:
        os.close(lock)


def _no_patience():
    times = iter(range(0, 1000, 10))
    return (lambda: float(next(times))), (lambda _: None)


def test_in_the_background_it_needs_the_service(home, enrolled, device, disk, capsys):
    status, _, told = encrypt(home, capsys, "--background")
    assert status == 1
    assert "the service does not run" in told
    assert enrolled.memory.encryption("data") is None


# --- power cuts before the first chunk


class PowerCutError(BaseException):
    """Nothing runs after it."""


def cut_in(agent, device, program: str, damage) -> None:
    """Work until `program` is to run; `damage` is what it leaves on the disk."""

    def cutting(argv, **given) -> Finished:
        if program in argv:
            damage(Path(argv[-1]))
            raise PowerCutError
        return run(argv, **given)

    agent.encryptions.ask("data")

    def remember(record: Encryption) -> None:
        agent.memory.remember_encryption("data", record)

    hands = Hands(
        cutting, follow, remember, lambda _: None, lambda: False, (), agent.marks.path("")
    )
    order = Order("data", Path(device.volume.source), "ext4")
    record = agent.memory.encryption("data")
    with pytest.raises(PowerCutError):
        InPlace(order, record, bytearray(device.key), hands).work()


def nothing(disk: Path) -> None:
    """The cut came before the first octet."""


def half_a_header(disk: Path) -> None:
    """cryptsetup's copy is at the end; of the header over the beginning, the first part is not."""
    copy_to_the_end(disk)
    with disk.open("r+b") as file:
        file.seek(64 * 1024)
        file.write(bytes(HEADER - 64 * 1024))


def only_the_magic(disk: Path) -> None:
    copy_to_the_end(disk)
    with disk.open("r+b") as file:
        file.write(b"LUKS\xba\xbe\x00\x02" + bytes(4088))


def header_without_copy(disk: Path) -> None:
    """A write cache kept the later write and lost the earlier one."""
    key = disk.with_suffix(".key")
    key.write_bytes(bytes(64))
    command = ["cryptsetup", "reencrypt", "--encrypt", "--init-only", "--batch-mode"]
    options = ["--type=luks2", "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000"]
    subprocess.run(
        [*command, *options, "--reduce-device-size=32M", f"--key-file={key}", str(disk)],
        check=True,
        capture_output=True,
        cwd=disk.parent,
    )
    with disk.open("r+b") as file:
        file.seek(-HEADER, os.SEEK_END)
        file.write(bytes(HEADER))


def copy_to_the_end(disk: Path) -> None:
    with disk.open("r+b") as file:
        head = file.read(HEADER)
        file.seek(-HEADER, os.SEEK_END)
        file.write(head)


@pytest.mark.parametrize("damage", [nothing, half_a_header, only_the_magic, header_without_copy])
def test_power_cut_while_the_first_headers_are_written(
    home, enrolled, device, disk, files, no_mapper, capsys, tmp_path, damage
):
    cut_in(enrolled, device, "--init-only", damage)
    assert enrolled.memory.encryption("data").phase == "heading"
    agent = make_agent(home.config, enrolled.clocks)
    # By itself, as after a boot.
    assert unlock(home, capsys, agent) == ("granted", "encrypting")
    for thread in agent.encryptions._threads:
        thread.join()
    assert unlock(home, capsys, agent) == ("granted", "verified")
    assert digests(decrypted(disk, device.key, tmp_path / "plain"), tmp_path / "out") == files


def test_another_disk_with_half_a_header_is_left_alone(
    home, enrolled, device, disk, no_mapper, capsys
):
    cut_in(enrolled, device, "--init-only", half_a_header)
    other = os.urandom(SIZE)
    disk.write_bytes(other)
    work(enrolled, device)
    assert "is not to be found" in enrolled.encryptions.progress("data").detail
    assert disk.read_bytes() == other


def test_headers_that_cannot_be_written_change_nothing(
    home, enrolled, device, disk, no_mapper, capsys, monkeypatch
):
    def refuse(self, *given):
        raise VolumeError("cryptsetup could not begin to encrypt it")

    monkeypatch.setattr("securecloud_agent.volumes.in_place.Cryptsetup.begin_encryption", refuse)
    assert encrypt(home, capsys)[0] == 1
    assert look_at(disk, run).detail == "ext4"
    assert enrolled.memory.encryption("data") is None


def test_a_link_that_leads_to_another_disk_meanwhile_is_noticed(
    home, enrolled, device, disk, no_mapper, capsys, tmp_path, monkeypatch
):
    link, other = tmp_path / "link", tmp_path / "other.img"
    make_ext4(other, tmp_path / "tree")
    link.symlink_to(disk)
    device.volume = replace(device.volume, source=str(link))
    before = other.read_bytes()

    def moving(argv, **given) -> Finished:
        done = run(argv, **given)
        if argv[0] == "resize2fs":
            link.unlink()
            link.symlink_to(other)
        return done

    monkeypatch.setattr(wiring, "run", moving)
    assert "is another disk than before" in encrypt(home, capsys)[2]
    assert other.read_bytes() == before


def test_told_to_stop_while_it_is_checked_it_changes_nothing(
    home, enrolled, device, disk, no_mapper, capsys
):
    def stopping(argv, **given) -> Finished:
        if argv[0] == "e2fsck":
            enrolled.marks.put(STOP, "data")
        return run(argv, **given)

    enrolled.encryptions.ask("data")
    enrolled.encryptions._run = stopping
    work(enrolled, device)
    assert enrolled.encryptions.progress("data").phase == "stopped"
    assert look_at(disk, run).detail == "ext4"


def test_a_disk_that_is_late_at_boot_is_waited_for(home, enrolled, device, disk, no_mapper, capsys):
    enrolled.encryptions.ask("data")
    late = disk.with_suffix(".late")
    disk.rename(late)
    assert unlock(home, capsys, enrolled) == ("failed", "closed")
    assert enrolled.memory.encryption("data").phase == "asked"
    late.rename(disk)
    assert unlock(home, capsys, enrolled) == ("granted", "encrypting")
    for thread in enrolled.encryptions._threads:
        thread.join()


def test_one_that_fails_waits_for_the_next_pass(home, enrolled, device, disk, no_mapper, capsys):
    called = threading.Event()
    enrolled.encryptions.on_end = called.set
    begun(enrolled, device)
    assert not called.is_set()
    enrolled.encryptions._follow = follow
    work(enrolled, device)
    assert called.is_set()


def test_denied_in_the_background_is_told_and_forgotten(home, enrolled, device, disk, capsys):
    enrolled.encryptions.ask("data")
    assert enrolled.encryptions.progress("data").phase == "asked"
    device.outcome, device.code = "denied", "policy"
    assert unlock(home, capsys, enrolled)[0] == "denied"
    assert "does not meet the policy" in enrolled.encryptions.progress("data").detail
    assert enrolled.memory.encryption("data") is None


# --- words


def test_progress_is_read_from_cryptsetup_and_told_with_rate_and_time_left():
    line = (
        b'{"device":"/dev/x","device_bytes":"1048576","device_size":"4194304",'
        b'"speed":"1048576","eta_ms":"2500","time_ms":"1000"}'
    )
    progress = read_progress(line)
    assert progress == Progress("encrypting", MIB, 4 * MIB, MIB, 3)
    assert describe(progress) == "encryption in place: 25.0 % of 4 MiB, 1.0 MiB/s, 0:00:03 left"
    assert read_progress(b"Finished, time 00m01s") is None
    assert read_progress(b'{"device_bytes":"x"}') is None


def test_damaged_record_says_what_to_do(tmp_path):
    memory = Memory(tmp_path)
    memory.remember_encryption("data", Encryption("x", "asked"))
    (tmp_path / "encryptions/data.json").write_text('{"what": 1}')
    with pytest.raises(AgentError, match=r"remove it, then run `securecloud-agent encrypt data`"):
        memory.encryption("data")


def test_progress_of_an_older_version_is_no_progress(tmp_path):
    marks = BootMarks(tmp_path, "boot")
    (tmp_path / "data.progress").write_text('{"other": 1}')
    assert Encryptions(Memory(tmp_path), marks, run, follow).progress("data") is None
