"""What every store promises (`domain.ports`), on both databases."""

from dataclasses import replace
from typing import Any

import pytest
from securecloud_server.domain.errors import Conflict, NotFound
from securecloud_server.domain.keys import KeyLife
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.records import DeviceState, HeaderCopy, Session
from securecloud_server.storage.database import SqlDatabase

from server.tests.storage.records import (
    AGENT,
    CHECK,
    DEVICE,
    EXPORT,
    GROUP,
    HOSTILE,
    KEY,
    POLICY,
    REQUEST,
    STORES,
)

IDS = [name for name, _, _ in STORES]


def stored(database: SqlDatabase, name: str, key: str) -> Any:
    with database.read() as tx:
        return getattr(tx, name).get(key)


def add(database: SqlDatabase, name: str, record: Any) -> None:
    """Add a record, with what it has to refer to."""

    def work(tx: Transaction) -> None:
        if name == "devices":
            _needs(tx)
        getattr(tx, name).add(record)

    database.write(work)


def _needs(tx: Transaction) -> None:
    if tx.agents.get(AGENT.name) is None:
        tx.agents.add(AGENT)


@pytest.mark.parametrize(("name", "key", "record"), STORES, ids=IDS)
def test_a_record_comes_back_as_it_was(
    database: SqlDatabase, name: str, key: str, record: Any
) -> None:
    add(database, name, record)
    assert stored(database, name, getattr(record, key)) == record


@pytest.mark.parametrize(("name", "key", "record"), STORES, ids=IDS)
def test_a_taken_key_is_a_conflict_and_changes_nothing(
    database: SqlDatabase, name: str, key: str, record: Any
) -> None:
    add(database, name, record)
    with pytest.raises(Conflict):
        add(database, name, record)
    assert stored(database, name, getattr(record, key)) == record


@pytest.mark.parametrize(("name", "key", "record"), STORES, ids=IDS)
def test_what_is_not_there_can_be_neither_replaced_nor_deleted(
    database: SqlDatabase, name: str, key: str, record: Any
) -> None:
    with pytest.raises(NotFound):
        database.write(lambda tx: getattr(tx, name).replace(record))
    with pytest.raises(NotFound):
        database.write(lambda tx: getattr(tx, name).delete(getattr(record, key)))
    assert stored(database, name, getattr(record, key)) is None


@pytest.mark.parametrize(("name", "key", "record"), STORES, ids=IDS)
def test_delete_removes_it(database: SqlDatabase, name: str, key: str, record: Any) -> None:
    add(database, name, record)
    database.write(lambda tx: getattr(tx, name).delete(getattr(record, key)))
    assert stored(database, name, getattr(record, key)) is None


def test_replace_overwrites_every_field(database: SqlDatabase) -> None:
    add(database, "agents", AGENT)
    new = replace(AGENT, state="retired", last_seen_at=None, version=None)
    database.write(lambda tx: tx.agents.replace(new))
    assert stored(database, "agents", "web1") == new


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_survives(database: SqlDatabase, text: str) -> None:
    group = replace(GROUP, description=text)
    add(database, "groups", group)
    assert stored(database, "groups", "web") == group
    request = replace(REQUEST, reason=text, rules=({"value": text, text: 1},))
    add(database, "requests", request)
    assert stored(database, "requests", "01") == request


def test_pages_walk_every_record_once_in_order(database: SqlDatabase) -> None:
    names = [f"g{number:03d}" for number in range(25)] + ["G", "g", "g0", "é", "z.9"]

    def work(tx: Transaction) -> None:
        for name in names:
            tx.groups.add(replace(GROUP, name=name))

    database.write(work)
    seen: list[str] = []
    while True:
        with database.read() as tx:
            page = tx.groups.page(seen[-1] if seen else None, 7, {})
        seen += [group.name for group in page]
        if len(page) < 7:
            break
    assert seen == sorted(names, key=str.encode)


def test_filters_choose_and_none_is_no_filter(database: SqlDatabase) -> None:
    database.write(lambda tx: tx.agents.add(AGENT))
    add(database, "devices", DEVICE)
    grouped = replace(DEVICE, name="b", device_id="dev-2", group="web", policy="web")
    database.write(lambda tx: tx.policies.add(POLICY))
    database.write(lambda tx: tx.groups.add(replace(GROUP, policy="web")))
    add(database, "devices", grouped)
    with database.read() as tx:
        assert tx.devices.page(None, 10, {"group": "web", "policy": None}) == [grouped]
        assert tx.devices.page(None, 10, {"agent": "other"}) == []
        assert len(tx.devices.page(None, 10, {"agent": None})) == 2
        assert tx.policies.users("web") == ["device:b", "group:web"]
        assert [device.name for device in tx.devices.of_agent("web1")] == ["b", "web1-data"]


def test_a_policy_keeps_every_version(database: SqlDatabase) -> None:
    second = replace(POLICY, version=2, digest="e" * 64, text={"rules": []})
    database.write(lambda tx: tx.policies.add(POLICY))
    database.write(lambda tx: tx.policies.replace(second))
    with database.read() as tx:
        assert tx.policies.get("web") == second
        assert list(tx.policies.versions("web")) == [second, POLICY]
    with pytest.raises(Conflict):
        database.write(lambda tx: tx.policies.replace(second))


def test_agents_are_found_by_id(database: SqlDatabase) -> None:
    database.write(lambda tx: tx.agents.add(AGENT))
    with database.read() as tx:
        assert tx.agents.by_id("id-1") == AGENT
        assert tx.agents.by_id("id-2") is None


def test_a_device_starts_with_an_empty_state_and_takes_state_and_keys_with_it(
    database: SqlDatabase,
) -> None:
    add(database, "devices", DEVICE)
    header = {"header": b"\x00" * 32, "volume_key": b"\xff" * 32, "header_changing": True}
    state = DeviceState("dev-1", "uuid", True, b"old", b"new", 5, 6, **header)
    with database.read() as tx:
        assert tx.devices.states(["dev-1", "dev-9"]) == {"dev-1": DeviceState("dev-1")}
    database.write(lambda tx: tx.devices.put_state(state))
    database.write(lambda tx: tx.keys.put(KEY))
    with database.read() as tx:
        assert tx.devices.states(["dev-1"]) == {"dev-1": state}
        assert tx.devices.states([]) == {}
    database.write(lambda tx: tx.devices.delete("web1-data"))
    with database.read() as tx:
        assert tx.devices.states(["dev-1"]) == {}
        assert tx.keys.lives(["dev-1"]) == {}
    with pytest.raises(NotFound):
        database.write(lambda tx: tx.devices.put_state(state))


def test_the_last_copy_of_a_header_stays_until_its_device_goes(database: SqlDatabase) -> None:
    add(database, "devices", DEVICE)
    first = HeaderCopy("dev-1", b"1" * 32, b"\x00header\xff", 7)
    last = replace(first, digest=b"2" * 32, header=b"LUKS\xba\xbe" * 100_000, kept_at=8)
    for copy in (first, last):
        database.write(lambda tx, copy=copy: tx.header_copies.put(copy))
        with database.read() as tx:
            assert tx.header_copies.get("dev-1") == copy
            assert tx.header_copies.get("dev-2") is None
    database.write(lambda tx: tx.devices.delete("web1-data"))
    with database.read() as tx:
        assert tx.header_copies.get("dev-1") is None


def test_the_key_in_use_is_the_one_that_was_activated_last(database: SqlDatabase) -> None:
    add(database, "devices", DEVICE)
    fresh, after = replace(KEY, version=9), replace(KEY, version=10)
    database.write(lambda tx: tx.keys.put(fresh))
    with database.read() as tx:
        assert tx.keys.lives(["dev-1", "dev-2"]) == {"dev-1": KeyLife(fresh)}
    active = replace(fresh, state="active", activated_at=7)
    database.write(lambda tx: [tx.keys.put(key) for key in (after, active)])
    with database.read() as tx:
        assert tx.keys.lives(["dev-1"]) == {"dev-1": KeyLife(active, after)}
    revoked = replace(active, state="deactivated")
    gone = replace(after, state="destroyed", reference=b"")
    database.write(lambda tx: [tx.keys.put(key) for key in (gone, revoked)])
    with database.read() as tx:
        assert tx.keys.lives(["dev-1"]) == {"dev-1": KeyLife(revoked)}
    second = replace(KEY, version=11, state="active", activated_at=8)
    database.write(lambda tx: tx.keys.put(second))
    with database.read() as tx:
        assert tx.keys.lives(["dev-1"]) == {"dev-1": KeyLife(second)}


def test_the_newest_request_of_each_device(database: SqlDatabase) -> None:
    newer = replace(REQUEST, request_id="02", state="denied")
    other = replace(REQUEST, request_id="015", device_id="dev-2")
    for request in (newer, REQUEST, other):
        add(database, "requests", request)
    with database.read() as tx:
        assert tx.requests.open_of(["dev-1", "dev-2", "dev-3"]) == {"dev-1": newer, "dev-2": other}
        assert [r.request_id for r in tx.requests.page(None, 10, {})] == ["02", "015", "01"]
        assert [r.request_id for r in tx.requests.page("02", 1, {})] == ["015"]


def test_a_session_is_used_once_acknowledged_once_and_forgotten(database: SqlDatabase) -> None:
    session = Session(b"s" * 16, "id-1", 100)
    database.write(lambda tx: tx.sessions.consume(session))
    with pytest.raises(Conflict):
        database.write(lambda tx: tx.sessions.consume(session))
    database.write(lambda tx: tx.sessions.acknowledge(b"s" * 16, 50))
    with pytest.raises(Conflict):
        database.write(lambda tx: tx.sessions.acknowledge(b"s" * 16, 51))
    with pytest.raises(NotFound):
        database.write(lambda tx: tx.sessions.acknowledge(b"t" * 16, 51))
    assert database.write(lambda tx: tx.sessions.purge(100)) == 0
    assert database.write(lambda tx: tx.sessions.purge(101)) == 1
    database.write(lambda tx: tx.sessions.consume(session))


def test_what_others_refer_to_stays(database: SqlDatabase) -> None:
    database.write(lambda tx: tx.policies.add(POLICY))
    database.write(lambda tx: tx.groups.add(replace(GROUP, policy="web")))
    with pytest.raises(Conflict, match="refers"):
        database.write(lambda tx: tx.policies.delete("web"))
    with pytest.raises(Conflict, match="refer"):
        add(database, "devices", replace(DEVICE, group="absent"))


def test_the_last_check_of_an_agent_takes_the_place_of_the_one_before(
    database: SqlDatabase,
) -> None:
    answered = replace(CHECK, answered_at=12)
    later = replace(CHECK, number=9, requested_at=20)
    for check in (CHECK, answered, later):
        database.write(lambda tx, check=check: tx.checks.put(check))
        with database.read() as tx:
            assert tx.checks.of(["id-1", "id-2"]) == {"id-1": check}
    with database.read() as tx:
        assert tx.checks.of([]) == {}


def test_requests_since_a_number(database: SqlDatabase) -> None:
    checks = [replace(CHECK, agent_id=f"id-{number}", number=number) for number in (3, 5, 8)]
    for check in checks:
        database.write(lambda tx, check=check: tx.checks.put(check))
    with database.read() as tx:
        assert tx.checks.requested_after(0) == {"id-3": 3, "id-5": 5, "id-8": 8}
        assert tx.checks.requested_after(5) == {"id-8": 8}
        assert tx.checks.requested_after(8) == {}


def test_when_exports_were_asked_for(database: SqlDatabase) -> None:
    for number, origin in enumerate(["t1", "t2", "t1", "t1"]):
        export = replace(
            EXPORT, export_id=f"{number}", created_at=10 * number, requester_origin=origin
        )
        add(database, "exports", export)
    with database.read() as tx:
        assert tx.exports.asked_at(-1, 9, None) == [30, 20, 10, 0]
        assert tx.exports.asked_at(0, 9, None) == [30, 20, 10]
        assert tx.exports.asked_at(-1, 2, "t1") == [30, 20]
        assert tx.exports.asked_at(-1, 9, "t2") == [10]
        assert tx.exports.asked_at(-1, 9, "") == []


def test_exports_that_nobody_came_for(database: SqlDatabase) -> None:
    for state in ("pending", "granted", "denied", "collected", "expired"):
        add(database, "exports", replace(EXPORT, export_id=state, state=state))
    with database.read() as tx:
        assert tx.exports.overdue(99) == []
        found = tx.exports.overdue(100)
    assert sorted(export.export_id for export in found) == ["granted", "pending"]
