"""Exports of keys while several servers serve from one database, on either kind of it."""

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from securecloud_server.domain.errors import Conflict, DomainError, TooMany
from securecloud_server.domain.exports import PER_REQUESTER
from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.records import Actor
from securecloud_server.keystores.memory import MemoryKeystore
from securecloud_server.services.admin import Ports, Slice
from securecloud_server.services.api_tokens import ApiTokenService
from securecloud_server.services.key_exports import KeyExportService
from securecloud_server.services.keys import KeyService
from securecloud_server.storage.database import SqlDatabase

from server.tests.storage.records import AGENT, DEVICE, KEY

WHY = "a rescue"
ROUNDS = 5


class Plain:
    """Seals nothing."""

    def errors(self, recipient: str) -> list[Any]:
        return []

    def seal(self, secret: bytes, recipient: str) -> str:
        return f"{recipient} {secret.hex()}"


class Node:
    """One server of several."""

    def __init__(self, database: SqlDatabase, keystore: MemoryKeystore) -> None:
        self.database = database
        self.ports = Ports(database, lambda: 1_800_000_000.0, os.urandom)
        keystores = Keystores(keystore)
        self.exports = KeyExportService(self.ports, keystores, Plain())
        self.keys = KeyService(self.ports, keystores)
        self.tokens = ApiTokenService(self.ports)

    def actions(self) -> list[str]:
        with self.database.read() as tx:
            return [logged.event.action for logged in tx.audit.page(None, 1000, {})]


@pytest.fixture
def nodes(connect: Callable[[], SqlDatabase]) -> list[Node]:
    """Two servers, and a device with a key in use."""
    keystore = MemoryKeystore()
    found = [Node(connect(), keystore) for _ in range(2)]

    def fill(tx: Any) -> None:
        tx.agents.add(AGENT)
        tx.devices.add(DEVICE)
        reference = keystore.create(DEVICE.device_id, 1)
        tx.keys.put(
            replace(
                KEY, keystore=keystore.name, state="active", reference=reference, activated_at=1
            )
        )

    found[0].database.write(fill)
    return found


def person(node: Node, name: str) -> Actor:
    text = node.tokens.create(Actor("cli", "root"), name, "account_administrator", None)[1]
    return node.tokens.authenticate(text, None)


def at_once(works: Sequence[Callable[[], Any]]) -> list[Any]:
    """Do all at the same moment; return what came of each, refusals among it."""
    barrier = threading.Barrier(len(works))

    def one(work: Callable[[], Any]) -> Any:
        barrier.wait()
        try:
            return work()
        except DomainError as refusal:
            return refusal

    with ThreadPoolExecutor(len(works)) as pool:
        return [each.result() for each in [pool.submit(one, work) for work in works]]


def done(results: list[Any]) -> list[Any]:
    return [result for result in results if not isinstance(result, DomainError)]


def test_of_any_number_of_tries_one_collects(nodes: list[Node]) -> None:
    alice, bob = person(nodes[0], "alice"), person(nodes[0], "bob")
    for _ in range(ROUNDS):
        asked = nodes[0].exports.request(alice, DEVICE.name, "age1x", WHY).export_id
        nodes[1].exports.grant(bob, asked, WHY)
        tries = [partial(node.exports.collect, alice, asked) for node in nodes * 3]
        results = at_once(tries)
        assert len(done(results)) == 1
        assert all(isinstance(each, Conflict) for each in results if each not in done(results))
    assert nodes[0].actions().count("key.exported") == ROUNDS
    assert nodes[0].actions().count("key.export_refused") == ROUNDS * 5


def test_of_two_who_grant_one_does(nodes: list[Node]) -> None:
    alice, bob, carol = (person(nodes[0], name) for name in ("alice", "bob", "carol"))
    for _ in range(ROUNDS):
        asked = nodes[0].exports.request(alice, DEVICE.name, "age1x", WHY).export_id
        results = at_once(
            [
                partial(nodes[0].exports.grant, bob, asked, WHY),
                partial(nodes[1].exports.grant, carol, asked, WHY),
            ]
        )
        (granted,) = done(results)
        assert nodes[0].exports.get(alice, asked) == granted
    assert nodes[0].actions().count("key.export_granted") == ROUNDS


def test_a_denial_comes_before_the_collection_or_not_at_all(nodes: list[Node]) -> None:
    alice, bob = person(nodes[0], "alice"), person(nodes[0], "bob")
    for _ in range(ROUNDS):
        asked = nodes[0].exports.request(alice, DEVICE.name, "age1x", WHY).export_id
        nodes[0].exports.grant(bob, asked, WHY)
        results = at_once(
            [
                partial(nodes[0].exports.collect, alice, asked),
                partial(nodes[1].exports.deny, bob, asked, WHY),
            ]
        )
        assert len(done(results)) == 1
        state = nodes[0].exports.get(alice, asked).state
        assert state == ("denied" if isinstance(results[0], Conflict) else "collected")


def test_a_revoked_key_does_not_leave_after_its_revocation(nodes: list[Node]) -> None:
    alice, bob = person(nodes[0], "alice"), person(nodes[0], "bob")
    for _ in range(ROUNDS):
        asked = nodes[0].exports.request(alice, DEVICE.name, "age1x", WHY).export_id
        nodes[0].exports.grant(bob, asked, WHY)
        before = len(nodes[0].actions())
        collected, _ = at_once(
            [
                partial(nodes[0].exports.collect, alice, asked),
                partial(nodes[1].keys.revoke, bob, DEVICE.name, WHY),
            ]
        )
        first, second = nodes[0].actions()[before:]
        if isinstance(collected, Conflict):
            assert (first, second) == ("key.revoked", "key.export_refused")
        else:
            assert (first, second) == ("key.exported", "key.revoked")
        nodes[0].keys.restore(bob, DEVICE.name, WHY)


def test_the_limit_holds_over_all_servers(nodes: list[Node]) -> None:
    alice = person(nodes[0], "alice")
    tries = [
        partial(node.exports.request, alice, DEVICE.name, "age1x", WHY)
        for node in nodes * PER_REQUESTER
    ]
    results = at_once(tries)
    assert len(done(results)) == PER_REQUESTER
    assert sum(isinstance(each, TooMany) for each in results) == PER_REQUESTER
    assert len(nodes[1].exports.page(alice, Slice(), {})) == PER_REQUESTER
