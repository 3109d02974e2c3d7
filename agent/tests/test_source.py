"""What lies on a source, told from real signatures."""

import os
import subprocess

import pytest
from securecloud_agent.decide.model import Content
from securecloud_agent.run import run
from securecloud_agent.volumes.cryptsetup import Cryptsetup
from securecloud_agent.volumes.source import blank_again, look_at

MIB = 1024 * 1024


@pytest.fixture
def volume(tmp_path):
    path = tmp_path / "volume"
    with path.open("wb") as file:
        file.truncate(20 * MIB)
    return path


def test_blank(volume):
    sight = look_at(volume, run)
    assert (sight.content, sight.size) == (Content.BLANK, 20 * MIB)


@pytest.mark.parametrize("place", [0, 4096, 15 * MIB, 16 * MIB, 19 * MIB + 5, 20 * MIB - 1])
def test_one_octet_anywhere_that_counts_is_data(volume, place):
    with volume.open("r+b") as file:
        file.seek(place)
        file.write(b"x")
    sight = look_at(volume, run)
    assert (sight.content, sight.detail) == (Content.OTHER, "data of an unknown kind")


@pytest.mark.parametrize(
    ("command", "detail"),
    [
        (["mkfs.ext4", "-q"], "ext4"),
        (["mkswap"], "swap"),
    ],
)
def test_signatures_are_named(volume, command, detail):
    subprocess.run([*command, str(volume)], check=True, capture_output=True)
    sight = look_at(volume, run)
    assert (sight.content, sight.detail) == (Content.OTHER, detail)


def test_partition_table_is_named(volume):
    entry = bytes([0, 0, 2, 0, 0x83, 0, 0, 0]) + (2048).to_bytes(4, "little") * 2
    with volume.open("r+b") as file:
        file.seek(446)
        file.write(entry.ljust(64, b"\0") + b"\x55\xaa")
    sight = look_at(volume, run)
    assert (sight.content, sight.detail) == (Content.OTHER, "dos")


def test_what_cannot_be_used(tmp_path, volume):
    assert look_at(tmp_path / "none", run).detail == "it does not exist"
    assert "neither" in look_at(tmp_path, run).detail
    os.mkfifo(tmp_path / "pipe")
    assert look_at(tmp_path / "pipe", run).content is Content.ABSENT
    os.truncate(volume, 16 * MIB)
    assert "needs more than" in look_at(volume, run).detail


def test_luks_header_whose_first_copy_is_gone_is_not_blank(volume):
    command = ["cryptsetup", "luksFormat", "--batch-mode", "--type=luks2", "--pbkdf=pbkdf2",
               "--pbkdf-force-iterations=1000", "--key-file=-", str(volume)]  # fmt: skip
    subprocess.run(command, input=bytes(64), check=True)
    assert look_at(volume, run).content is Content.LUKS
    with volume.open("r+b") as file:
        file.write(bytes(4096))
    sight = look_at(volume, run)
    assert sight.content is Content.OTHER
    assert "LUKS" in sight.detail


def test_half_done_format_is_undone(volume):
    with volume.open("r+b") as file:
        file.write(os.urandom(16 * MIB))
    blank_again(volume)
    assert look_at(volume, run).content is Content.BLANK
    assert volume.stat().st_size == 20 * MIB


def test_no_more_of_a_volume_is_copied_than_opens_it(volume):
    cryptsetup, key = Cryptsetup(run, volume), bytearray(os.urandom(64))
    uuid = "11111111-2222-3333-4444-555555555555"
    cryptsetup.format(key, "a", uuid, volume.stat().st_size)
    sight = look_at(volume, run)
    assert (sight.content, sight.header_problem) == (Content.LUKS, None)
    assert len(sight.header) < MIB
    cryptsetup.verify(key, sight.header)


def test_all_of_a_volume_is_copied_when_its_key_slot_lies_further_behind(volume):
    command = ["cryptsetup", "luksFormat", "--batch-mode", "--type=luks2", "--pbkdf=pbkdf2",
               "--pbkdf-force-iterations=1000", "--key-size=512", "--luks2-metadata-size=1m",
               "--key-file=-", str(volume)]  # fmt: skip
    subprocess.run(command, input=bytes(64), check=True, capture_output=True)
    sight = look_at(volume, run)
    assert (sight.content, sight.header_problem) == (Content.LUKS, None)
    Cryptsetup(run, volume).verify(bytearray(64), sight.header)
