"""Injects faults: reads the name of one on each line, and answers what became of it.

A program of its own, which has no connection to a database open when it forks: SQLite's are not to
be taken into another process. Each line is a JSON object, and so is each answer.
"""

import gc
import itertools
import json
import logging
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from securecloud_server.storage.writer import GroupCommit

from server.tests.injections.faults import FAULTS, Fault, Steps
from server.tests.injections.world import Refused, Told, World

Mutation = Callable[[World], None]


@dataclass
class Run:
    """What was heard of a server that something happened to."""

    told: list[Told] = field(default_factory=list)
    steps: int = 0
    struck: bool = False
    cause: str | None = None
    """What it said was the matter."""
    broken: str | None = None
    """What it should not have done."""
    alive: bool = False
    """Whether it came to its end."""

    def hear(self, kind: str, value: Any) -> None:
        """Take in what the server says."""
        match kind:
            case "told":
                self.told.append(value)
            case "cause":
                self.cause = value
            case "broken":
                self.broken = value
            case "end":
                self.alive = True
                self.steps, self.struck = value


Say = Callable[[str, Any], None]


def run(world: World, fault: Fault, at: int, mutate: Mutation) -> Run:
    """Let the server play, with `fault` at step `at`."""
    world.again()
    if fault.kills:
        return _run_forked(world, fault, at, mutate)
    result = Run()
    _play(world, fault, at, mutate, result.hear)
    world.stop()
    return result


def _run_forked(world: World, fault: Fault, at: int, mutate: Mutation) -> Run:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "wb", 0) as out:
            _play(world, fault, at, mutate, lambda *words: out.write(pickle.dumps(words)))
        os._exit(0)
    os.close(writing)
    result = Run()
    with os.fdopen(reading, "rb") as heard:
        for words in _messages(heard):
            result.hear(*words)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
        result.struck = True
    elif not result.alive and result.broken is None:
        result.broken = f"the server ended with status {status}"
    return result


def _play(world: World, fault: Fault, at: int, mutate: Mutation, say: Say) -> None:
    steps = Steps(at, fault.lasting)
    try:
        mutate(world)
        fault.prepare(world.scene, steps)
        client = world.client(lambda told: say("told", told))
        try:
            client.play()
        except Refused as cause:
            say("cause", str(cause))
        steps.over()
        client.go_on()
        say("end", (steps.taken, steps.struck))
    except Exception as error:
        say("broken", "".join(traceback.format_exception(error)))


def _messages(heard: BinaryIO) -> Iterator[tuple[str, Any]]:
    while True:
        try:
            yield pickle.load(heard)
        except EOFError:
            return


def inject(world: World, fault: Fault, mutate: Mutation) -> dict[str, Any]:
    """Play again and again, with the fault one step later each time, until none is left."""
    injections, causes = 0, set()
    for at in itertools.count(1, fault.every):
        result = run(world, fault, at, mutate)
        problem = _problem(world, result)
        if problem is not None:
            return {"problem": f"{problem}\nat step {at}"}
        if result.alive and result.steps < at:
            break
        injections += result.struck
        if result.cause is not None:
            causes.add(result.cause)
    answers = [told.action for told in result.told]
    return {
        "problem": None,
        "injections": injections,
        "causes": sorted(causes),
        "undisturbed": answers,
    }


def _problem(world: World, result: Run) -> str | None:
    if result.broken is not None:
        return result.broken
    try:
        world.check(result.told)
    except Exception as error:
        return "".join(traceback.format_exception(error))
    return None


def _as_it_is(_world: World) -> None:
    """Change nothing."""


def _answer_before_it_commits(_world: World) -> None:
    """Let what was written be committed when the next write begins."""
    own = GroupCommit._cursor
    GroupCommit._cursor = lambda self: _Late(own(self))


class _Late:
    """A cursor that owes its last COMMIT."""

    def __init__(self, cursor: Any) -> None:
        self._cursor = cursor

    def execute(self, statement: str, *parameters: Any) -> Any:
        if statement == "COMMIT":
            return None
        if statement == "BEGIN IMMEDIATE" and self._cursor.connection.in_transaction:
            self._cursor.execute("COMMIT")
        return self._cursor.execute(statement, *parameters)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)


def _never_flush(world: World) -> None:
    world.connected.append(lambda connection: connection.execute("PRAGMA synchronous=OFF"))


MUTANTS: dict[str, Mutation] = {
    "answers before it commits": _answer_before_it_commits,
    "never flushes": _never_flush,
}


def main() -> None:
    """Answer each line."""
    logging.disable(logging.CRITICAL)
    world = World(Path(sys.argv[1]))
    gc.freeze()  # so that forks share it
    for line in sys.stdin:
        request = json.loads(line)
        mutate = MUTANTS[request["mutant"]] if request["mutant"] else _as_it_is
        answer = inject(world, FAULTS[request["fault"]], mutate)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
