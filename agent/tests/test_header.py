"""Hostile LUKS2 headers, made from a real one."""

import hashlib
import json
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from securecloud_agent.volumes.header import COPY_BYTES, HeaderError, check, parse

UUID = "11111111-2222-3333-4444-555555555555"
SIZE = 16384


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("luks") / "volume"
    with path.open("wb") as file:
        file.truncate(COPY_BYTES + 1024 * 1024)
    command = ["cryptsetup", "luksFormat", "--batch-mode", "--type=luks2", "--pbkdf=pbkdf2",
               "--pbkdf-force-iterations=1000", "--key-size=512", f"--uuid={UUID}", "--label=a",
               "--key-file=-", str(path)]  # fmt: skip
    subprocess.run(command, input=bytes(64), check=True)
    return path.read_bytes()[:COPY_BYTES]


def sealed(copy: bytearray, offset: int) -> None:
    copy[offset + 448 : offset + 512] = bytes(64)
    digest = hashlib.sha256(copy[offset : offset + SIZE]).digest()
    copy[offset + 448 : offset + 480] = digest


def metadata(copy: bytes) -> dict:
    return json.loads(copy[4096:SIZE].split(b"\0")[0])


def with_metadata(
    copy: bytes, document: dict | bytes, offsets: tuple[int, ...] = (0, SIZE)
) -> bytes:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    changed = bytearray(copy)
    for offset in offsets:
        changed[offset + 4096 : offset + SIZE] = text.ljust(SIZE - 4096, b"\0")
        sealed(changed, offset)
    return bytes(changed)


def test_real_header_passes(real):
    header = parse(real)
    assert (header.uuid, header.label) == (UUID, "a")
    check(header)


def set_in(document: dict, path: str, value: object) -> None:
    *folders, last = path.split(".")
    for folder in folders:
        document = document[folder]
    document[last] = value


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("segments.0.encryption", "cipher_null-ecb", "the cipher is 'cipher_null-ecb'"),
        ("segments.0.encryption", "aes-cbc-plain", "the cipher"),
        ("segments.0.encryption", ["aes-xts-plain64"], "the cipher"),
        ("keyslots.0.area.encryption", "cipher_null-ecb", "key slot's cipher"),
        ("keyslots.0.key_size", 32, "the key size"),
        ("keyslots.0.area.key_size", 1, "key slot's key size"),
        ("keyslots.0.kdf.type", "none", "key derivation"),
        ("keyslots.0.type", "reencrypt", "key slot's type"),
        ("keyslots.0.area.offset", float("inf"), "the key slot's offset is not a number"),
        ("keyslots.0.area.offset", "1e999", "the key slot's offset is not a number"),
        ("keyslots.0.area.size", None, "the key slot's size is not a number"),
        ("keyslots.1", {}, "number of key slots"),
        ("keyslots", {}, "number of key slots"),
        ("tokens.0", {"type": "systemd-tpm2", "keyslots": ["0"]}, "number of tokens"),
        ("segments.1", {}, "number of segments"),
        ("segments.0.type", "linear", "segment's type"),
        ("segments.0.integrity", {"type": "none"}, "integrity"),
        ("segments.0.sector_size", 1, "sector size"),
        ("digests.1", {}, "number of digests"),
        ("digests.0.salt", None, "the type of the digest's salt"),
        ("digests.0.digest", 7, "the type of the digest's digest"),
        ("digests.0.keyslots", [], "digest's key slots"),
        ("digests.0.segments", ["1"], "digest's segments"),
        ("config.requirements", {"mandatory": ["online-reencrypt-v2"]}, "unfinished operation"),
        ("segments", 7, "not of the form"),
        ("config", None, "not of the form"),
    ],
)
def test_header_that_we_would_not_have_written_is_refused(real, path, value, message):
    document = metadata(real)
    set_in(document, path, value)
    with pytest.raises(HeaderError, match=message):
        check(parse(with_metadata(real, document)))


def test_newer_second_header_with_another_cipher_is_noticed(real):
    document = metadata(real)
    set_in(document, "segments.0.encryption", "cipher_null-ecb")
    changed = bytearray(with_metadata(real, document, (SIZE,)))
    changed[SIZE + 16 : SIZE + 24] = (99).to_bytes(8, "big")
    sealed(changed, SIZE)
    with pytest.raises(HeaderError, match="two headers differ"):
        parse(bytes(changed))


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"[" * 9000, "not JSON"),
        (b"{}\0{}", "data behind"),
        (b"\xff", "not JSON"),
    ],
)
def test_damaged_metadata(real, document, message):
    with pytest.raises(HeaderError, match=message):
        parse(with_metadata(real, document))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(place=st.integers(0, 2 * SIZE - 1), bit=st.integers(0, 7))
def test_every_flipped_bit_is_noticed(real, place, bit):
    changed = bytearray(real[: 2 * SIZE])
    changed[place] ^= 1 << bit
    # Only the unused half of the checksum field is not covered by anything.
    if 480 <= place % SIZE < 512:
        return
    with pytest.raises(HeaderError):
        parse(bytes(changed))


@given(st.binary(max_size=200))
def test_garbage_never_escapes(garbage):
    with pytest.raises(HeaderError):
        parse(b"LUKS\xba\xbe\x00\x02" + garbage)


def test_luks1_is_refused(real):
    with pytest.raises(HeaderError, match="version 1"):
        parse(b"LUKS\xba\xbe\x00\x01" + real[8:])
