"""What is kept of machines' evidence (`domain.ports.EvidenceStore`), on both databases."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.records import Device, DeviceState, Governed, Sighting
from securecloud_server.storage import schema
from securecloud_server.storage.database import SqlDatabase
from sqlalchemy import func, select

from server.tests.storage.records import (
    AGENT,
    DEVICE,
    GROUP,
    HOSTILE,
    KEY,
    POLICY,
    REQUEST,
    SIGHTING,
)

KEEP = 3


def digest(number: int) -> bytes:
    return bytes([number]) * 32


def see(
    database: SqlDatabase, number: int, *, document: int = 1, history: int = KEEP, **changes: Any
) -> Sighting:
    """Let the device's machine show a document in an exchange; times and numbers go together."""
    sighting = replace(
        SIGHTING,
        seq=number,
        digest=digest(document),
        first_at=number * 10,
        last_at=number * 10,
        **changes,
    )
    body = json.dumps({"facts": document})
    database.write(lambda tx: tx.evidence.keep(sighting, body, history))
    return sighting


def history(database: SqlDatabase, device_id: str = "dev-1") -> list[tuple[int, int, int, int]]:
    """Return document, number and first and last time of each sighting, newest first."""
    with database.read() as tx:
        return [
            (document["facts"], seen.seq, seen.first_at, seen.last_at)
            for seen, document in tx.evidence.history(device_id)
        ]


def documents(database: SqlDatabase) -> int:
    with database.read() as tx:
        row = tx.runner.row(select(func.count()).select_from(schema.EVIDENCE_DOCUMENTS))
        assert row
        return int(row[0])


@pytest.fixture
def filled(database: SqlDatabase) -> SqlDatabase:
    def work(tx: Transaction) -> None:
        tx.agents.add(AGENT)
        tx.devices.add(DEVICE)

    database.write(work)
    return database


def test_what_was_seen_comes_back_as_it_was(filled: SqlDatabase) -> None:
    sighting = see(filled, 1)
    with filled.read() as tx:
        assert list(tx.evidence.history("dev-1")) == [(sighting, {"facts": 1})]
        assert list(tx.evidence.history("dev-2")) == []


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_survives(filled: SqlDatabase, text: str) -> None:
    body = json.dumps({"facts": {"host_name": {"value": text}}}, ensure_ascii=False)
    sighting = replace(SIGHTING, circumstances={text: text})
    filled.write(lambda tx: tx.evidence.keep(sighting, body, KEEP))
    with filled.read() as tx:
        assert list(tx.evidence.history("dev-1")) == [(sighting, json.loads(body))]


def test_the_same_document_again_only_brings_the_sighting_up_to_date(filled: SqlDatabase) -> None:
    see(filled, 1)
    later = see(filled, 2, outcome="denied", code="policy", request_id=None, boot_id="c")
    with filled.read() as tx:
        ((seen, _),) = tx.evidence.history("dev-1")
    assert seen == replace(later, seq=1, first_at=10)


def test_another_document_begins_another_sighting(filled: SqlDatabase) -> None:
    for number, document in enumerate([1, 1, 2, 1], start=1):
        see(filled, number, document=document)
    assert history(filled) == [(1, 4, 40, 40), (2, 3, 30, 30), (1, 1, 10, 20)]
    assert documents(filled) == 2


def test_the_same_document_of_another_machine_is_another_sighting(filled: SqlDatabase) -> None:
    see(filled, 1)
    see(filled, 2, agent_id="id-2")
    assert [number for _, number, _, _ in history(filled)] == [2, 1]


def test_the_oldest_go_when_there_are_too_many(filled: SqlDatabase) -> None:
    for number in range(1, 7):
        see(filled, number, document=number)
    assert [document for document, *_ in history(filled)] == [6, 5, 4]
    assert documents(filled) == KEEP
    see(filled, 7, document=7, history=1)
    assert [document for document, *_ in history(filled)] == [7]
    assert documents(filled) == 1


def test_a_document_stays_while_another_device_shows_it(filled: SqlDatabase) -> None:
    other = replace(DEVICE, name="other", device_id="dev-2")
    filled.write(lambda tx: tx.devices.add(other))
    see(filled, 1)
    see(filled, 2, device_id="dev-2")
    see(filled, 3, document=2, history=1)
    assert documents(filled) == 2
    assert [document for document, *_ in history(filled, "dev-2")] == [1]


def test_old_sightings_are_forgotten_but_never_the_last(filled: SqlDatabase) -> None:
    for number in (1, 2, 3):
        see(filled, number, document=number)
    with filled.read() as tx:
        assert not tx.evidence.is_overdue(10)
        assert tx.evidence.is_overdue(11)
    assert filled.write(lambda tx: tx.evidence.forget(21)) == 2
    assert [document for document, *_ in history(filled)] == [3]
    assert documents(filled) == 1
    assert filled.write(lambda tx: tx.evidence.forget(10_000)) == 0
    assert [document for document, *_ in history(filled)] == [3]
    with filled.read() as tx:
        assert not tx.evidence.is_overdue(10_000)


def test_a_device_takes_its_evidence_with_it(filled: SqlDatabase) -> None:
    see(filled, 1)
    filled.write(lambda tx: tx.devices.delete(DEVICE.name))
    assert history(filled) == []
    with filled.read() as tx:
        assert tx.evidence.is_overdue(0)
    filled.write(lambda tx: tx.evidence.forget(0))
    assert documents(filled) == 0


# Whom a policy governs


def governed(database: SqlDatabase, policy: str) -> Sequence[Governed]:
    with database.read() as tx:
        return tx.evidence.governed(policy, "default")


def names(found: Sequence[Governed]) -> list[str]:
    return [each.device.name for each in found]


def register(tx: Transaction, name: str, **changes: Any) -> Device:
    device = replace(DEVICE, name=name, device_id=f"id of {name}", **changes)
    tx.devices.add(device)
    return device


def test_a_policy_governs_what_names_it_then_its_groups_and_the_default_all_others(
    database: SqlDatabase,
) -> None:
    def work(tx: Transaction) -> None:
        tx.agents.add(AGENT)
        for name in ("default", "web", "db"):
            tx.policies.add(replace(POLICY, name=name))
        tx.groups.add(replace(GROUP, name="webs", policy="web"))
        tx.groups.add(replace(GROUP, name="loose", policy=None))
        register(tx, "own", policy="web")
        register(tx, "grouped", group="webs")
        register(tx, "own-in-group", group="webs", policy="db")
        register(tx, "loose", group="loose")
        register(tx, "bare")
        register(tx, "explicit", policy="default")

    database.write(work)
    assert names(governed(database, "web")) == ["grouped", "own"]
    assert names(governed(database, "db")) == ["own-in-group"]
    assert names(governed(database, "default")) == ["bare", "explicit", "loose"]
    assert names(governed(database, "none")) == []


def test_each_comes_with_its_state_current_key_newest_request_and_last_sighting(
    filled: SqlDatabase,
) -> None:
    state = DeviceState("dev-1", "uuid", False, b"old", None, 5, 6)
    key = replace(KEY, version=2, state="active")
    newest = replace(REQUEST, request_id="02", state="denied")

    def work(tx: Transaction) -> None:
        tx.devices.put_state(state)
        tx.keys.put(KEY)
        tx.keys.put(key)
        tx.requests.add(REQUEST)
        tx.requests.add(newest)

    filled.write(work)
    see(filled, 1)
    last = see(filled, 2, document=2)
    (found,) = governed(filled, "default")
    assert found == Governed(DEVICE, state, key, newest, last, {"facts": 2})


def test_a_device_that_nobody_asked_for_comes_without(filled: SqlDatabase) -> None:
    (found,) = governed(filled, "default")
    assert found == Governed(DEVICE, DeviceState("dev-1"), None, None, None, None)


@pytest.mark.parametrize(
    "changes", [{"agent_id": "id-9"}, {"state": "retired"}], ids=["another machine", "retired"]
)
def test_what_another_machine_showed_counts_for_nothing(
    filled: SqlDatabase, changes: dict[str, Any]
) -> None:
    see(filled, 1)
    filled.write(lambda tx: tx.agents.replace(replace(AGENT, **changes)))
    (found,) = governed(filled, "default")
    assert (found.sighting, found.document) == (None, None)
