"""Everything in a unit of work happens, or nothing; what returned is there for everybody."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from securecloud_server.domain.errors import Conflict, NotFound
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.records import Session
from securecloud_server.storage.database import SqlDatabase
from securecloud_server.storage.verification import verify_audit
from securecloud_server.storage.writer import Job

from server.tests.storage.conftest import check_signature
from server.tests.storage.records import GROUP, event

Opener = Callable[[], SqlDatabase]


def put(name: str) -> Callable[[Transaction], None]:
    def work(tx: Transaction) -> None:
        tx.groups.add(replace(GROUP, name=name))
        tx.audit.append(event(object=f"group:{name}"))

    return work


def names(database: SqlDatabase) -> list[str]:
    with database.read() as tx:
        return [group.name for group in tx.groups.page(None, 500, {})]


def logged(database: SqlDatabase) -> list[str]:
    with database.read() as tx:
        return [entry.event.object for entry in tx.audit.page(None, 1000, {})]


def test_what_returned_is_there_for_another_process(connect: Opener) -> None:
    assert connect().write(lambda tx: (put("a")(tx), 7)[1]) == 7
    assert names(connect()) == ["a"]


def test_an_exception_undoes_all_of_its_work_and_none_of_the_others(database: SqlDatabase) -> None:
    def fails(tx: Transaction) -> None:
        put("b")(tx)
        raise RuntimeError("no")

    database.write(put("a"))
    with pytest.raises(RuntimeError, match="no"):
        database.write(fails)
    database.write(put("c"))
    assert names(database) == ["a", "c"]
    assert logged(database) == ["group:a", "group:c"]


def test_writers_that_wait_together_share_a_commit_and_fail_alone(database: SqlDatabase) -> None:
    """One holds the turn until the others wait; then all of them are one batch."""
    waiting, go = threading.Event(), threading.Event()

    def slow(tx: Transaction) -> None:
        waiting.set()
        assert go.wait(10)
        put("slow")(tx)

    def outcome(name: str) -> str:
        def work(tx: Transaction) -> None:
            put(name)(tx)
            if name.startswith("bad"):
                tx.groups.delete("nothing")

        try:
            database.write(work)
        except NotFound:
            return "refused"
        return "done"

    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(database.write, slow)
        assert waiting.wait(10)
        others = {name: pool.submit(outcome, name) for name in ("a", "bad1", "b", "bad2", "c")}
        go.set()
        first.result(10)
        results = {name: future.result(10) for name, future in others.items()}
    assert results == {"a": "done", "bad1": "refused", "b": "done", "bad2": "refused", "c": "done"}
    assert names(database) == ["a", "b", "c", "slow"]
    assert sorted(logged(database)) == ["group:a", "group:b", "group:c", "group:slow"]


def in_one_commit(database: SqlDatabase, *works: Callable[[Any], Any]) -> list[Job[Any]]:
    """Run these as one batch, in this order."""
    jobs = [Job(work) for work in works]
    database._writer._commit(jobs)
    return jobs


def test_after_one_that_failed_the_others_see_the_log_as_it_is(database: SqlDatabase) -> None:
    database.write(put("a"))
    sizes = []

    def looks_and_fails(tx: Transaction) -> None:
        sizes.append(tx.audit.size())
        raise Conflict("no")

    def looks_and_appends(tx: Transaction) -> None:
        sizes.append(tx.audit.size())
        put("b")(tx)

    failed, *others = in_one_commit(database, looks_and_fails, looks_and_appends, put("c"))
    assert failed.failed
    assert not any(job.failed for job in others)
    assert sizes == [1, 1]
    assert logged(database) == ["group:a", "group:b", "group:c"]
    assert verify_audit(database, check_signature).verified


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_probe_among_others_changes_nothing_of_the_log(database: SqlDatabase, place: int) -> None:
    database.write(put("a"))
    works: list[Callable[[Any], Any]] = [put("b"), put("c")]
    works.insert(place, database._probe)
    assert not any(job.failed for job in in_one_commit(database, *works))
    database.write(put("d"))
    assert logged(database) == ["group:a", "group:b", "group:c", "group:d"]
    assert verify_audit(database, check_signature).verified


def test_one_of_many_wins_a_session(connect: Opener) -> None:
    databases = [connect(), connect()]
    session = Session(b"s" * 16, "id-1", 100)

    def consume(number: int) -> bool:
        try:
            databases[number % 2].write(lambda tx: tx.sessions.consume(session))
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(consume, range(16))) == 1


def test_two_processes_append_to_one_log(connect: Opener) -> None:
    databases = [connect(), connect()]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: databases[n % 2].write(put(f"g{n:02d}")), range(40)))
    assert len(names(databases[0])) == 40
    with databases[1].read() as tx:
        assert [entry.seq for entry in tx.audit.page(None, 100, {})] == list(range(40))


def test_a_view_is_consistent_and_cannot_be_written(connect: Opener) -> None:
    database, other = connect(), connect()
    database.write(put("a"))
    with database.read() as tx:
        assert tx.groups.get("b") is None
        other.write(put("b"))
        assert tx.groups.get("b") is None
        with pytest.raises(RuntimeError, match="reading"):
            tx.groups.add(replace(GROUP, name="c"))
        with pytest.raises(RuntimeError, match="reading"):
            tx.audit.append(event())
            tx.groups.delete("a")
    assert names(database) == ["a", "b"]


def test_the_check_writes(database: SqlDatabase) -> None:
    database.check()
    assert logged(database) == []
