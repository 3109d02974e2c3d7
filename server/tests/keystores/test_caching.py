"""Keys in memory: for how long, how many, and what is left of them afterwards."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.ports import KeptKey
from securecloud_server.keystores.caching import CachingKeystore
from securecloud_server.keystores.memory import MemoryKeystore

SECONDS = 30.0
MOST = 3


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


class Counted(MemoryKeystore):
    """Counts how often it is asked for a key; `before` is done before it answers."""

    asked = 0
    before: Callable[[], None] = staticmethod(lambda: None)
    closed = False

    def fetch(self, reference: bytes, device_id: str, version: int) -> bytes:
        self.asked += 1
        self.before()
        return super().fetch(reference, device_id, version)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> Counted:
    return Counted()


@pytest.fixture
def changes() -> list[int]:
    return []


@pytest.fixture
def cache(store: Counted, clock: Clock, changes: list[int]) -> CachingKeystore:
    return CachingKeystore(store, SECONDS, clock, MOST, changes.append)


def fetched(cache: CachingKeystore, device: str = "dev-1") -> tuple[bytes, bytes, bytearray]:
    """Return a fresh key's reference, the key, and the octets in which it is kept."""
    reference = cache.create(device, 1)
    key = cache.fetch(reference, device, 1)
    return reference, key, kept(cache, reference)


def kept(cache: CachingKeystore, reference: bytes) -> bytearray:
    (octets,) = [
        entry.key for which, entry in cache._entries.items() if which.reference == reference
    ]
    return octets


def test_a_key_is_asked_for_once_in_a_while(
    cache: CachingKeystore, store: Counted, clock: Clock
) -> None:
    reference, key, _ = fetched(cache)
    clock.now += SECONDS - 0.1
    assert cache.fetch(reference, "dev-1", 1) == key
    assert store.asked == 1
    clock.now += 0.1
    assert cache.fetch(reference, "dev-1", 1) == key
    assert store.asked == 2


def test_asking_again_does_not_prolong_it(
    cache: CachingKeystore, store: Counted, clock: Clock
) -> None:
    reference, *_ = fetched(cache)
    for _ in range(6):
        clock.now += SECONDS / 5
        cache.fetch(reference, "dev-1", 1)
    assert store.asked == 2


def test_a_slow_answer_does_not_prolong_it(
    cache: CachingKeystore, store: Counted, clock: Clock
) -> None:
    """It may be revoked in the KMIP server as soon as that has answered."""

    def hesitate() -> None:
        clock.now += 20

    store.before = hesitate
    reference, *_ = fetched(cache)
    clock.now += SECONDS - 20
    cache.fetch(reference, "dev-1", 1)
    assert store.asked == 2


def test_it_serves_while_the_keystore_is_away_and_no_longer(
    cache: CachingKeystore, store: Counted, clock: Clock
) -> None:
    reference, key, _ = fetched(cache)
    store.away = True
    assert cache.fetch(reference, "dev-1", 1) == key
    with pytest.raises(Unavailable, match="away"):
        cache.check()
    clock.now += SECONDS
    with pytest.raises(Unavailable, match="away"):
        cache.fetch(reference, "dev-1", 1)


def test_a_refusal_is_not_kept(cache: CachingKeystore, store: Counted) -> None:
    reference = cache.create("dev-1", 1)
    store.away = True
    with pytest.raises(Unavailable):
        cache.fetch(reference, "dev-1", 1)
    assert not cache.kept()
    store.away = False
    assert len(cache.fetch(reference, "dev-1", 1)) == 64


@pytest.mark.parametrize(
    ("device", "version", "reference"), [("dev-2", 1, None), ("dev-1", 2, None), ("dev-1", 1, b"x")]
)
def test_what_is_kept_is_for_its_device_version_and_reference(
    cache: CachingKeystore, device: str, version: int, reference: bytes | None
) -> None:
    known, *_ = fetched(cache)
    with pytest.raises(Unavailable):
        cache.fetch(reference or known, device, version)


def test_a_key_that_only_was_made_is_not_kept(cache: CachingKeystore) -> None:
    cache.create("dev-1", 1)
    cache.adopt(bytes(64), "dev-1", 2)
    assert not cache.kept()


def test_the_oldest_makes_room(cache: CachingKeystore, clock: Clock) -> None:
    first = fetched(cache, "dev-0")
    others = []
    for number in range(1, MOST + 1):
        clock.now += 1
        others.append(fetched(cache, f"dev-{number}"))
    assert {which.device_id for which in cache.kept()} == {"dev-1", "dev-2", "dev-3"}
    assert first[2] == bytes(64)
    assert [octets for _, _, octets in others] == [key for _, key, _ in others]


def leaves_by_time(cache: CachingKeystore, clock: Clock, _reference: bytes) -> None:
    clock.now += SECONDS
    cache.expire()


def is_fetched_anew(cache: CachingKeystore, clock: Clock, reference: bytes) -> None:
    clock.now += SECONDS
    cache.fetch(reference, "dev-1", 1)


ENDS: dict[str, Callable[[CachingKeystore, Clock, bytes], None]] = {
    "its time is over": leaves_by_time,
    "its time was over, and it was asked for": is_fetched_anew,
    "it is dropped": lambda cache, _, reference: cache.drop([KeptKey("dev-1", 1, reference)]),
    "all are": lambda cache, _clock, _reference: cache.clear(),
    "it is destroyed": lambda cache, _, reference: cache.destroy(reference),
    "the server ends": lambda cache, _clock, _reference: cache.close(),
}


@pytest.mark.parametrize("end", ENDS)
def test_what_leaves_is_overwritten(
    cache: CachingKeystore, clock: Clock, changes: list[int], end: str
) -> None:
    reference, key, octets = fetched(cache)
    assert octets == key
    assert key != bytes(64)
    ENDS[end](cache, clock, reference)
    assert octets == bytes(64)
    assert octets is not key
    assert sum(changes) == len(cache.kept())


def test_time_takes_those_alone_that_are_due(cache: CachingKeystore, clock: Clock) -> None:
    fetched(cache, "dev-1")
    clock.now += SECONDS / 2
    fetched(cache, "dev-2")
    clock.now += SECONDS / 2
    cache.expire()
    assert [which.device_id for which in cache.kept()] == ["dev-2"]


def test_a_key_that_was_handed_out_stays_whole(cache: CachingKeystore) -> None:
    reference, key, _ = fetched(cache)
    again = cache.fetch(reference, "dev-1", 1)
    cache.clear()
    assert again == key != bytes(64)


def test_destroying_and_closing_reach_the_keystore(cache: CachingKeystore, store: Counted) -> None:
    reference, *_ = fetched(cache)
    cache.destroy(reference)
    with pytest.raises(Unavailable):
        store.fetch(reference, "dev-1", 1)
    cache.close()
    assert store.closed


def test_dropping_what_is_not_there_is_no_error(cache: CachingKeystore, changes: list[int]) -> None:
    cache.drop([KeptKey("dev-1", 1, b"")])
    cache.clear()
    assert changes == []


def test_threads_that_fetch_and_drop_at_once_never_get_an_overwritten_key(
    store: Counted, clock: Clock
) -> None:
    cache = CachingKeystore(store, SECONDS, clock, most=2)
    references = {f"dev-{number}": cache.create(f"dev-{number}", 1) for number in range(4)}
    keys = {name: store.fetch(reference, name, 1) for name, reference in references.items()}
    over = threading.Event()

    def empty() -> None:
        while not over.is_set():
            cache.clear()

    emptying = threading.Thread(target=empty)
    emptying.start()
    try:
        with ThreadPoolExecutor(4) as pool:
            asked = list(references) * 500
            found = list(pool.map(lambda name: cache.fetch(references[name], name, 1), asked))
    finally:
        over.set()
        emptying.join()
    assert found == [keys[name] for name in asked]


def test_nothing_of_a_key_shows(cache: CachingKeystore) -> None:
    _, key, _ = fetched(cache)
    shown = f"{cache!r} {cache._entries!r} {cache.kept()!r}"
    assert repr(key)[2:20] not in shown
    assert key.hex() not in shown
