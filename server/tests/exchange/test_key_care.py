"""The master key is replaced while the server serves, and every key is tried every day."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from securecloud_server import app
from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.records import Actor
from securecloud_server.keystores.master_key import create_master_key
from securecloud_server.services.rewrapping import Rewrapped, Rewrapping
from securecloud_server.settings import Settings

ACTOR = Actor("cli", "root")
NAMES = [f"{letter}-data" for letter in "abcdefgh"]
DAY = 86400

Start = Callable[[str, str], app.Application]


class Killed(BaseException):
    """As SIGKILL: nobody catches it."""


class Mortal:
    """A database, and the process around it that ends before or after its n-th transaction."""

    def __init__(self, database: Any, dies_at: int) -> None:
        self._database, self._left = database, dies_at

    def _end(self) -> None:
        self._left -= 1
        if self._left == 0:
            raise Killed

    def read(self) -> Any:
        return self._database.read()

    def write(self, work: Any) -> Any:
        self._end()
        result = self._database.write(work)
        self._end()
        return result


@pytest.fixture
def keys(server: Any) -> dict[str, bytes]:
    """Some devices and their keys, wrapped under the first master key."""
    server.machine("web1")
    for name in NAMES:
        server.device(name, "web1")
    return fetched(server.application)


@pytest.fixture
def before(server: Any) -> str:
    source: str = server.application.settings.keystore.master_key
    return source


@pytest.fixture
def after(tmp_path: Path) -> str:
    """The next master key."""
    source = f"file:{tmp_path}/next.key"
    create_master_key(source)
    return source


@pytest.fixture
def start(server: Any, keys: dict[str, bytes]) -> Iterator[Start]:
    """Start another node on the same database, with these two master keys."""
    made = []

    def build(present: str, previous: str) -> app.Application:
        settings: Settings = server.application.settings
        keystore = replace(settings.keystore, master_key=present, previous_master_key=previous)
        made.append(app.build(replace(settings, keystore=keystore), clock=server.clock))
        return made[-1]

    yield build
    for application in made:
        application.close()


def fetched(application: app.Application) -> dict[str, bytes]:
    found = {}
    with application.database.read() as tx:
        for device in tx.devices.page(None, 100, {}):
            (key,) = tx.keys.versions([device.device_id])
            keystore = application.keystores.of(key)
            found[device.name] = keystore.fetch(key.reference, key.device_id, key.version)
    return found


def test_nothing_is_lost_and_the_previous_key_is_not_needed_any_more(
    server: Any, start: Start, keys: dict[str, bytes], before: str, after: str
) -> None:
    both = start(after, before)
    assert both.server_id == server.application.server_id
    assert both.rewrapping.left() == len(NAMES) + 1
    assert fetched(both) == keys
    seen: list[tuple[int, int]] = []
    done = both.rewrapping.run(ACTOR, lambda *words: seen.append(words))
    assert done == Rewrapped(len(NAMES) + 1, {})
    assert seen == [(0, len(NAMES)), (len(NAMES), len(NAMES))]
    assert server.actions().count("key.rewrapped") == len(NAMES) + 1
    assert both.rewrapping.left() == 0
    assert both.rewrapping.run(ACTOR, lambda *_: None) == Rewrapped(0, {})
    alone = start(after, "")
    assert alone.server_id == server.application.server_id
    assert fetched(alone) == keys
    with pytest.raises(Unavailable, match="server identity: sealed under another master key"):
        start(before, "")


def test_without_a_previous_key_there_is_nothing_to_do(start: Start, before: str) -> None:
    alone = start(before, "")
    assert alone.rewrapping.left() == 0
    assert alone.rewrapping.run(ACTOR, lambda *_: None) == Rewrapped(0, {})


def test_the_same_key_twice_is_refused(start: Start, before: str) -> None:
    with pytest.raises(Unavailable, match="is the same key"):
        start(before, before)


def test_a_key_that_does_not_open_keeps_no_other_and_is_still_counted(
    server: Any, start: Start, keys: dict[str, bytes], before: str, after: str
) -> None:
    broken = server.key("b-data")
    damaged = broken.reference[:-1] + bytes([broken.reference[-1] ^ 1])
    server.database.write(lambda tx: tx.keys.put(replace(broken, reference=damaged)))
    both = start(after, before)
    done = both.rewrapping.run(ACTOR, lambda *_: None)
    assert (done.renewed, list(done.failed)) == (len(NAMES), ["b-data"])
    assert both.rewrapping.left() == 1
    assert server.key("b-data").reference == damaged


def test_a_key_that_changed_meanwhile_is_left_to_whoever_changed_it(
    server: Any, start: Start, keys: dict[str, bytes], before: str, after: str
) -> None:
    both = start(after, before)

    class Slow(Mortal):
        def write(self, work: Any) -> Any:
            known = server.key("c-data")
            keystore = server.application.keystores.active
            changed = replace(known, reference=keystore.create(known.device_id, known.version))
            self._database.write(lambda tx: tx.keys.put(changed))
            return self._database.write(work)

    rewrapping = Rewrapping(Slow(both.database, 0), both.keystores, lambda _check: False)
    assert rewrapping.run(ACTOR, lambda *_: None) == Rewrapped(len(NAMES) - 1, {})
    assert both.rewrapping.left() == 2
    assert fetched(both)["c-data"] != keys["c-data"]


@pytest.mark.parametrize("dies_at", range(1, 12))
def test_killed_at_any_moment_every_key_opens_and_the_next_run_ends_it(
    start: Start,
    keys: dict[str, bytes],
    before: str,
    after: str,
    dies_at: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("securecloud_server.services.rewrapping._AT_ONCE", 2)
    both = start(after, before)

    def renew(check: bool) -> bool:
        left: bool = both.rewrapping._renew_identity(check)
        return left

    mortal = Rewrapping(Mortal(both.database, dies_at), both.keystores, renew)
    with contextlib.suppress(Killed):
        mortal.run(ACTOR, lambda *_: None)
    assert fetched(start(after, before)) == keys
    assert both.rewrapping.run(ACTOR, lambda *_: None).failed == {}
    assert fetched(start(after, "")) == keys


def test_a_node_does_it_by_itself_after_its_start(
    start: Start, keys: dict[str, bytes], before: str, after: str
) -> None:
    both = start(after, before)
    both.key_care.run()
    assert both.rewrapping.left() == 0
    assert fetched(start(after, "")) == keys


def test_every_day_all_keys_are_tried_and_those_that_are_lost_are_told(
    server: Any, keys: dict[str, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    care, metrics = server.application.key_care, server.application.metrics
    care.run()
    server.clock.forward(DAY - 60)
    care.run()
    assert server.actions().count("keystore.proven") == 1
    assert server.events()[-1].details == {"keys": len(NAMES), "failed": 0}
    assert b"securecloud_keys_unavailable 0.0" in metrics.render()
    lost = server.key("d-data")
    server.database.write(lambda tx: tx.keys.put(replace(lost, reference=b"\x01" + bytes(90))))
    server.clock.forward(60)
    care.run()
    told, summary = server.events()[-2:]
    assert (told.action, told.object, told.outcome) == (
        "key.unavailable",
        "device:d-data",
        "failed",
    )
    assert "sealed under another master key" in told.reason
    assert (summary.action, summary.outcome) == ("keystore.proven", "failed")
    assert summary.details == {"keys": len(NAMES), "failed": 1}
    assert b"securecloud_keys_unavailable 1.0" in metrics.render()
    assert [record.device for record in caplog.records if hasattr(record, "device")] == ["d-data"]
    for key in keys.values():
        assert key.hex() not in caplog.text


def test_destroyed_keys_are_not_tried(server: Any, keys: dict[str, bytes]) -> None:
    gone = server.key("a-data")
    server.database.write(lambda tx: tx.keys.put(replace(gone, state="destroyed", reference=b"")))
    proof = server.application.key_proof.run(ACTOR, lambda *_: None)
    assert (proof.tried, proof.failed) == (len(NAMES) - 1, {})
