"""Keys move between keystores, and are where their records say whenever it is interrupted."""

import contextlib
from dataclasses import replace
from typing import Any

import pytest
from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.records import Actor
from securecloud_server.keystores.memory import MemoryKeystore
from securecloud_server.services.key_migration import KeyMigration, Migrated

ACTOR = Actor("cli", "root")
NAMES = ["a-data", "b-data", "c-data"]


class Killed(BaseException):
    """As SIGKILL: nobody catches it."""


class Mortal:
    """A keystore, and the process around it that ends before or after its n-th call."""

    def __init__(self, store: Any, dies_at: int) -> None:
        self.name = store.name
        self._store, self._left = store, dies_at

    def _count(self, call: Any) -> Any:
        self._left -= 1
        if self._left == 0:
            raise Killed
        result = call()
        self._left -= 1
        if self._left == 0:
            raise Killed
        return result

    def fetch(self, *words: Any) -> Any:
        return self._count(lambda: self._store.fetch(*words))

    def adopt(self, *words: Any) -> Any:
        return self._count(lambda: self._store.adopt(*words))

    def destroy(self, *words: Any) -> Any:
        return self._count(lambda: self._store.destroy(*words))

    def check(self) -> None:
        self._store.check()

    def close(self) -> None:
        pass


@pytest.fixture
def local(server: Any) -> Any:
    return server.application.keystores.active


@pytest.fixture
def memory() -> MemoryKeystore:
    return MemoryKeystore()


@pytest.fixture
def keys(server: Any, local: Any, memory: MemoryKeystore) -> dict[str, bytes]:
    """Three devices and their keys."""
    server.machine("web1")
    for name in NAMES:
        server.device(name, "web1")
    return fetched(server, Keystores(local, (memory,)))


def fetched(server: Any, keystores: Keystores) -> dict[str, bytes]:
    found = {}
    for name in NAMES:
        key = server.key(name)
        found[name] = keystores.of(key).fetch(key.reference, key.device_id, key.version)
    return found


def migrate(server: Any, keystores: Keystores, target: str) -> Migrated:
    return KeyMigration(server.database, keystores).run(ACTOR, target, lambda *_: None)


def test_all_keys_move_there_and_back(
    server: Any, local: Any, memory: MemoryKeystore, keys: dict[str, bytes]
) -> None:
    keystores = Keystores(local, (memory,))
    assert KeyMigration(server.database, keystores).count("memory") == 3
    for target in ("memory", "local"):
        assert migrate(server, keystores, target) == Migrated(3, {})
        assert {server.key(name).keystore for name in NAMES} == {target}
        assert fetched(server, keystores) == keys
        assert server.actions()[-3:] == ["key.moved"] * 3
    assert KeyMigration(server.database, keystores).count("local") == 0
    assert migrate(server, keystores, "local") == Migrated(0, {})
    # What is behind is behind.
    with pytest.raises(Unavailable):
        memory.fetch(bytes(16), "", 1)
    assert memory._keys == {}


def test_progress_is_told(server: Any, local: Any, memory: Any, keys: dict[str, bytes]) -> None:
    told: list[tuple[int, int]] = []
    migration = KeyMigration(server.database, Keystores(local, (memory,)))
    migration.run(ACTOR, "memory", lambda *words: told.append(words))
    assert told == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_a_key_that_cannot_be_fetched_keeps_no_other(
    server: Any, local: Any, memory: MemoryKeystore, keys: dict[str, bytes]
) -> None:
    broken = server.key("b-data")
    server.database.write(lambda tx: tx.keys.put(replace(broken, reference=b"\x01" + bytes(90))))
    done = migrate(server, Keystores(local, (memory,)), "memory")
    assert (done.moved, list(done.failed)) == (2, ["b-data"])
    assert server.key("b-data").keystore == "local"


def test_destroyed_keys_stay_what_they_are(
    server: Any, local: Any, memory: MemoryKeystore, keys: dict[str, bytes]
) -> None:
    gone = server.key("a-data")
    server.database.write(lambda tx: tx.keys.put(replace(gone, state="destroyed", reference=b"")))
    assert migrate(server, Keystores(local, (memory,)), "memory") == Migrated(2, {})
    assert server.key("a-data").keystore == "local"


def test_a_keystore_that_is_away_is_said_at_once(
    server: Any, local: Any, memory: MemoryKeystore, keys: dict[str, bytes]
) -> None:
    memory.away = True
    with pytest.raises(Unavailable, match="away"):
        migrate(server, Keystores(local, (memory,)), "memory")
    with pytest.raises(Unavailable, match="keystore kmip, which is not configured"):
        migrate(server, Keystores(local, (memory,)), "kmip")


def test_a_key_that_changed_meanwhile_is_left_to_whoever_changed_it(
    server: Any, local: Any, memory: MemoryKeystore, keys: dict[str, bytes]
) -> None:
    class Slow(MemoryKeystore):
        def adopt(self, key: bytes, device_id: str, version: int) -> bytes:
            known = server.key("a-data")
            if device_id == known.device_id:
                changed = replace(known, reference=local.create(device_id, version))
                server.database.write(lambda tx: tx.keys.put(changed))
            return super().adopt(key, device_id, version)

    slow = Slow()
    assert migrate(server, Keystores(local, (slow,)), "memory") == Migrated(2, {})
    assert server.key("a-data").keystore == "local"
    assert len(slow._keys) == 2


@pytest.mark.parametrize("dies_at", range(1, 30))
def test_killed_at_any_moment_every_key_is_where_its_record_says(
    server: Any, local: Any, memory: MemoryKeystore, keys: dict[str, bytes], dies_at: int
) -> None:
    sound = Keystores(local, (memory,))
    for mortal in (
        Keystores(Mortal(local, dies_at), (memory,)),
        Keystores(local, (Mortal(memory, dies_at),)),
    ):
        with contextlib.suppress(Killed):
            migrate(server, mortal, "memory")
        assert fetched(server, sound) == keys
    assert migrate(server, sound, "memory").failed == {}
    assert {server.key(name).keystore for name in NAMES} == {"memory"}
    assert fetched(server, sound) == keys
