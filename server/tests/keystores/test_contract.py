"""What every keystore promises (`domain.ports.Keystore`)."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.ports import Keystore
from securecloud_server.keystores.caching import CachingKeystore
from securecloud_server.keystores.kmip import KmipKeystore
from securecloud_server.keystores.kmip_link import connector
from securecloud_server.keystores.local import LocalKeystore
from securecloud_server.keystores.master_key import KeyRing, MasterKey
from securecloud_server.keystores.memory import MemoryKeystore

from tests.support.kmip import KmipServer

MASTER = bytes(range(32))
MAKERS: dict[str, Callable[[], Keystore]] = {
    "local": lambda: LocalKeystore(KeyRing(MasterKey(MASTER))),
    "memory": MemoryKeystore,
    "memory behind a cache": lambda: CachingKeystore(MemoryKeystore(), seconds=300),
}


@pytest.fixture(params=[*MAKERS, "kmip", "kmip behind a cache"])
def keystore(request: pytest.FixtureRequest) -> Iterator[Keystore]:
    if request.param in MAKERS:
        yield MAKERS[request.param]()
        return
    server: KmipServer = request.getfixturevalue("kmip_server")
    context = server.pki.client_context()
    kmip = KmipKeystore(connector(server.host, server.port, context, seconds=20))
    keystore = kmip if request.param == "kmip" else CachingKeystore(kmip, seconds=300)
    yield keystore
    keystore.close()


def test_it_names_itself_as_the_records_will(keystore: Keystore) -> None:
    assert keystore.name in {"local", "memory", "kmip"}


def test_a_key_comes_back_and_is_64_octets(keystore: Keystore) -> None:
    reference = keystore.create("dev-1", 1)
    key = keystore.fetch(reference, "dev-1", 1)
    assert len(key) == 64
    assert keystore.fetch(reference, "dev-1", 1) == key


def test_no_two_keys_and_no_two_references_are_equal(keystore: Keystore) -> None:
    references = [keystore.create("dev-1", 1) for _ in range(50)]
    assert len(set(references)) == 50
    assert len({keystore.fetch(reference, "dev-1", 1) for reference in references}) == 50


@pytest.mark.parametrize(
    ("device", "version"), [("dev-2", 1), ("dev-1", 2), ("", 1), ("dev-11", 1)]
)
def test_a_key_is_bound_to_its_device_and_version(
    keystore: Keystore, device: str, version: int
) -> None:
    reference = keystore.create("dev-1", 1)
    with pytest.raises(Unavailable):
        keystore.fetch(reference, device, version)


@pytest.mark.parametrize("place", [0, 1, 10, 30, -1])
def test_a_damaged_reference_opens_nothing(keystore: Keystore, place: int) -> None:
    reference = bytearray(keystore.create("dev-1", 1))
    reference[place % len(reference)] ^= 1
    with pytest.raises(Unavailable):
        keystore.fetch(bytes(reference), "dev-1", 1)


@pytest.mark.parametrize("reference", [b"", b"\x01", os.urandom(200)])
def test_what_is_no_reference_opens_nothing(keystore: Keystore, reference: bytes) -> None:
    with pytest.raises(Unavailable):
        keystore.fetch(reference, "dev-1", 1)


def test_destroy_can_be_repeated(keystore: Keystore) -> None:
    reference = keystore.create("dev-1", 1)
    keystore.destroy(reference)
    keystore.destroy(reference)


def test_threads_get_their_own_keys(keystore: Keystore) -> None:
    """PyKMIP's client, shared by eight threads, gave two of three the key of another."""
    names = [f"dev-{number}" for number in range(20)]
    references = {name: keystore.create(name, 1) for name in names}
    keys = {name: keystore.fetch(references[name], name, 1) for name in names}
    asked = names * 10
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda name: keystore.fetch(references[name], name, 1), asked))
    assert found == [keys[name] for name in asked]


def test_a_healthy_keystore_checks(keystore: Keystore) -> None:
    keystore.check()


def test_no_refusal_shows_a_key(keystore: Keystore) -> None:
    reference = keystore.create("dev-1", 1)
    key = keystore.fetch(reference, "dev-1", 1)
    with pytest.raises(Unavailable) as refusal:
        keystore.fetch(reference, "dev-2", 1)
    shown = f"{refusal.value!r} {keystore!r}"
    assert key.hex() not in shown
    assert MASTER.hex() not in shown


def test_another_master_key_opens_nothing_and_is_named() -> None:
    reference = LocalKeystore(KeyRing(MasterKey(MASTER))).create("dev-1", 1)
    other = LocalKeystore(KeyRing(MasterKey(bytes(32))))
    with pytest.raises(Unavailable, match="another master key"):
        other.fetch(reference, "dev-1", 1)


def test_a_reference_of_the_local_keystore_is_not_the_key() -> None:
    keystore = LocalKeystore(KeyRing(MasterKey(MASTER)))
    reference = keystore.create("dev-1", 1)
    assert keystore.fetch(reference, "dev-1", 1) not in reference


def test_a_random_source_that_gives_zeros_is_noticed() -> None:
    with pytest.raises(Unavailable, match="random"):
        LocalKeystore(KeyRing(MasterKey(MASTER)), bytes).check()


def test_a_keystore_that_is_away_says_so() -> None:
    keystore = MemoryKeystore()
    reference = keystore.create("dev-1", 1)
    keystore.away = True
    for call in (keystore.check, lambda: keystore.fetch(reference, "dev-1", 1)):
        with pytest.raises(Unavailable, match="away"):
            call()
