"""Two nodes on one database, with keys in memory: who is revoked gets nothing from either."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from securecloud_protocol import messages as wire
from securecloud_protocol.errors import ProtocolError
from securecloud_server import app, installation
from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.ports import KeptKey
from securecloud_server.domain.records import Actor
from securecloud_server.keystores.caching import MOST_KEPT, CachingKeystore
from securecloud_server.keystores.memory import MemoryKeystore
from securecloud_server.services.key_cache import KeyCacheWatch
from securecloud_server.services.key_migration import KeyMigration
from securecloud_server.settings import Settings, parse_settings

from server.tests.exchange.conftest import APPROVE, CERTIFICATE, Clock, Machine, Server

ADMIN = Actor("token", "alice", "security_administrator")
WHY = "the machine was stolen"
DEVICE = "web1-data"
SECONDS = 60


class FarAway(MemoryKeystore):
    """The KMIP server, as far as services can tell."""

    name = "kmip"


@dataclass
class Nodes:
    """Two nodes; the machine asks the one, an administrator is at the other."""

    one: Server
    two: Server
    far: FarAway
    machine: Machine

    @property
    def cache(self) -> CachingKeystore:
        found = self.one.application.key_cache
        assert found is not None
        return found

    def a_second_passes(self) -> None:
        for chore in self.one.application.upkeep():
            chore()

    def boots(self) -> wire.DeviceDecision:
        self.machine.reboot()
        return self.machine.unlock(DEVICE).decisions[0]


def settings_in(directory: Path, cache: int) -> Settings:
    kmip = {
        "server": "localhost:5696",
        "ca_file": "/ca.pem",
        "certificate": "/server.pem",
        "key": "/server.key",
        "cache": cache,
    }
    return parse_settings(
        {
            "storage": {"url": f"sqlite:///{directory}/securecloud.db"},
            "keystore": {"type": "kmip", "master_key": f"file:{directory}/master.key"},
            "kmip": kmip,
        }
    )


@pytest.fixture
def far(monkeypatch: pytest.MonkeyPatch) -> FarAway:
    far = FarAway()
    monkeypatch.setattr(app, "_kmip", lambda *_: far)
    return far


@pytest.fixture
def nodes(tmp_path: Path, clock: Clock, far: FarAway) -> Iterator[Nodes]:
    settings = settings_in(tmp_path, SECONDS)
    installation.prepare(settings, clock=clock)
    one, two = (Server(app.build(settings, [CERTIFICATE], clock=clock), clock) for _ in range(2))
    one.policy("default", {})
    one.policy("web", APPROVE)
    machine = one.machine("web1")
    one.device(DEVICE, "web1")
    machine.unlock(DEVICE)
    yield Nodes(one, two, far, machine)
    for node in (one, two):
        node.application.close()


def test_who_asks_again_costs_the_keystore_nothing(nodes: Nodes) -> None:
    nodes.far.away = True
    assert nodes.boots().outcome == "granted"
    nodes.a_second_passes()
    assert nodes.boots().outcome == "granted"
    nodes.cache.clear()
    assert nodes.boots().code == "unavailable"


def revoke(nodes: Nodes) -> None:
    nodes.two.application.admin.keys.revoke(ADMIN, DEVICE, WHY)


def destroy(nodes: Nodes) -> None:
    revoke(nodes)
    nodes.two.application.admin.keys.destroy(ADMIN, DEVICE, WHY)


@pytest.mark.parametrize("end", [revoke, destroy])
def test_what_ended_at_one_node_is_not_released_by_the_other_and_leaves_its_memory(
    nodes: Nodes, end: Callable[[Nodes], None]
) -> None:
    end(nodes)
    assert len(nodes.cache.kept()) == 1, "nothing but the record tells this node"
    decision = nodes.boots()
    assert (decision.outcome, decision.code, decision.key) == ("denied", "revoked", None)
    nodes.a_second_passes()
    assert not nodes.cache.kept()


def test_a_deleted_device_leaves_the_memory(nodes: Nodes) -> None:
    nodes.two.application.admin.devices.delete(ADMIN, DEVICE, force=True)
    nodes.a_second_passes()
    assert not nodes.cache.kept()


def test_a_key_that_is_revoked_while_it_is_on_its_way_is_not_handed_out(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch = nodes.cache.fetch

    def late(*words: Any) -> bytes:
        key = fetch(*words)
        revoke(nodes)
        return key

    monkeypatch.setattr(nodes.cache, "fetch", late)
    nodes.machine.reboot()
    with pytest.raises(ProtocolError, match="stale"):
        nodes.machine.ask(DEVICE)


def test_a_key_that_comes_after_the_look_goes_with_the_next(nodes: Nodes) -> None:
    key = nodes.one.key(DEVICE)
    revoke(nodes)
    nodes.a_second_passes()
    nodes.cache.fetch(key.reference, key.device_id, key.version)
    nodes.a_second_passes()
    assert not nodes.cache.kept()


def test_a_restored_key_is_fetched_anew(nodes: Nodes) -> None:
    revoke(nodes)
    nodes.a_second_passes()
    nodes.two.application.admin.keys.restore(ADMIN, DEVICE, "it was found")
    nodes.far.away = True
    assert nodes.boots().code == "unavailable"
    nodes.far.away = False
    assert nodes.boots().outcome == "granted"


def test_a_rotation_leaves_the_new_key_alone(nodes: Nodes) -> None:
    nodes.two.application.admin.keys.rotate(ADMIN, DEVICE, "it is time")
    nodes.machine.reboot()
    dialogue = nodes.machine.begin(DEVICE)
    dialogue.challenge()
    dialogue.release()
    nodes.a_second_passes()
    assert {which.version for which in nodes.cache.kept()} == {1, 2}
    told = wire.AckResult(DEVICE, 2, "mounted", None, False, "its key was replaced")
    dialogue.exchange.receipt(nodes.two.post("ack", dialogue.exchange.ack((told,))))
    nodes.a_second_passes()
    assert {which.version for which in nodes.cache.kept()} == {2}


def test_a_rotation_that_is_given_up_leaves_the_old_key_alone(nodes: Nodes) -> None:
    keys = nodes.two.application.admin.keys
    keys.rotate(ADMIN, DEVICE, "it is time")
    nodes.machine.reboot()
    nodes.machine.ask(DEVICE)
    assert {which.version for which in nodes.cache.kept()} == {1, 2}
    keys.cancel(ADMIN, DEVICE, "not today")
    nodes.a_second_passes()
    assert {which.version for which in nodes.cache.kept()} == {1}


def test_a_key_that_was_moved_leaves_the_memory(nodes: Nodes) -> None:
    application = nodes.two.application
    local = application.keystores.named("local")
    migration = KeyMigration(nodes.two.database, Keystores(local, (nodes.far,)))
    assert migration.run(ADMIN, "local", lambda *_: None).moved == 1
    nodes.a_second_passes()
    assert not nodes.cache.kept()
    assert nodes.boots().outcome == "granted"


def test_where_nobody_can_know_the_memory_is_emptied(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise Unavailable("the database server cannot be reached")

    monkeypatch.setattr(nodes.one.database, "read", fail)
    _, look = nodes.one.application.upkeep()
    with pytest.raises(Unavailable):
        look()
    assert not nodes.cache.kept()


def test_an_empty_memory_asks_the_database_nothing(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    nodes.cache.clear()
    monkeypatch.setattr(nodes.one.database, "read", None)
    nodes.a_second_passes()


def test_a_full_memory_is_looked_through_whole(nodes: Nodes) -> None:
    """Only the first of many would be found otherwise."""
    known = nodes.one.key(DEVICE)
    good = KeptKey(known.device_id, known.version, known.reference)
    strangers = {KeptKey(f"device-{number}", 1, b"") for number in range(MOST_KEPT - 1)}

    class Full:
        left = frozenset({good, *strangers})

        def kept(self) -> frozenset[KeptKey]:
            return self.left

        def drop(self, keys: Any) -> None:
            self.left -= set(keys)

        def clear(self) -> None:
            raise AssertionError("the database is there")

    full = Full()
    KeyCacheWatch(nodes.one.database, full).look()
    assert full.left == {good}


def test_the_daily_proof_asks_the_keystore_itself(nodes: Nodes) -> None:
    assert nodes.cache.kept()
    nodes.far.away = True
    proof = nodes.one.application.key_proof.run(ADMIN, lambda *_: None)
    assert list(proof.failed) == [DEVICE]


def test_the_keystores_own_state_is_what_readiness_shows(nodes: Nodes) -> None:
    nodes.far.away = True
    answer = nodes.one.http.get("/readyz")
    assert answer.json["reasons"] == {"keystore": "the keystore is away"}


def test_how_many_are_kept_is_a_metric(nodes: Nodes) -> None:
    def shown() -> str:
        lines = nodes.one.application.metrics.render().decode().splitlines()
        return next(line for line in lines if line.startswith("securecloud_cached_keys "))

    assert shown() == "securecloud_cached_keys 1.0"
    nodes.one.application.close()
    assert shown() == "securecloud_cached_keys 0.0"


def test_it_is_off_unless_the_settings_say_so(tmp_path: Path, clock: Clock, far: FarAway) -> None:
    settings = settings_in(tmp_path, 0)
    assert settings.kmip == replace(settings.kmip, cache=Settings().kmip.cache)
    installation.prepare(settings, clock=clock)
    application = app.build(settings, [CERTIFICATE], clock=clock)
    assert application.key_cache is None
    assert application.upkeep() == ()
    application.close()
