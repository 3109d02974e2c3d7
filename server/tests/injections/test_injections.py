"""Release only after audit is on disk, whatever happens at whichever step.

A server answers a machine and a person: a key is released and acknowledged, then it is revoked. It
is killed, or its database fails, at one step of all that; then at the next one, and so on. After
each: the log verifies, and is a continuation of the one that the machine has seen; what was
answered is in it; the server, where it still runs, and one that starts anew serve the machine.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
PLAY = [
    "key.released",
    "exchange.refused",
    "device.mounted",
    "key.revoked",
    "key_request.denied",
]
STEPS = {"hello", "evidence", "ack"}
"""Where an agent is refused; the cause is for the server's log."""
FULL = {"the disk that holds the database is full"}
FAILS = {"the disk that holds the database fails", "the database file cannot be opened"}
LOCKED = {"the database is locked by another process"}
BROKEN_OFF = {"the database fails: SQLITE_INTERRUPT"}


class Program:
    """The program that injects faults."""

    def __init__(self, folder: Path) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "server.tests.injections.program", folder],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def inject(self, fault: str, mutant: str | None = None) -> Any:
        """Return what became of a server that this happened to, at one step after the other."""
        assert self._process.stdin and self._process.stdout
        print(json.dumps({"fault": fault, "mutant": mutant}), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate(timeout=60)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    program = Program(tmp_path_factory.mktemp("injections"))
    yield program
    program.end()


@pytest.mark.parametrize(
    ("fault", "least", "causes"),
    [
        ("kill -9 at an operation on a file", 300, set()),
        ("kill -9 within a write", 100, set()),
        ("kill -9 before a statement", 80, set()),
        ("power cut", 120, set()),
        ("full disk", 120, STEPS | FULL | FAILS),
        ("I/O error", 250, STEPS | FAILS),
        ("failing disk", 250, STEPS | FAILS),
        ("locked database", 30, STEPS | LOCKED),
        ("statement broken off", 300, STEPS | BROKEN_OFF),
    ],
)
def test_a_key_goes_out_behind_its_event_and_no_answer_is_forgotten(
    program: Program,
    fault: str,
    least: int,
    causes: set[str],
    record_property: Callable[[str, object], None],
) -> None:
    result = program.inject(fault)
    assert not result["problem"], result["problem"]
    record_property(f"injections: {fault}", result["injections"])
    assert result["injections"] >= least
    assert set(result["causes"]) <= causes
    assert bool(result["causes"]) == bool(causes)
    assert result["undisturbed"][: len(PLAY)] == PLAY


@pytest.mark.parametrize(
    ("mutant", "fault"),
    [
        ("answers before it commits", "kill -9 before a statement"),
        ("never flushes", "power cut"),
    ],
)
def test_a_server_that_releases_too_early_is_found_out(
    program: Program, mutant: str, fault: str
) -> None:
    assert "key.released is not in the log" in program.inject(fault, mutant)["problem"]
