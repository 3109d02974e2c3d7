"""Collects the facts that were asked for: each in its own time, none able to spoil another."""

import importlib
import json
import threading
from collections.abc import Sequence
from typing import Any

from securecloud_protocol.messages import Fact, FactRequest

from securecloud_agent.errors import AgentError, printable
from securecloud_agent.probes.context import Context, ProbeError

PROBES = frozenset(
    {
        "host_name",
        "os",
        "kernel",
        "patch_level",
        "anti_malware",
        "network_services",
        "enabled_units",
        "packages",
        "file_digests",
        "users",
        "mandatory_access_control",
        "secure_boot",
        "tpm",
        "tpm_pcrs",
        "boot",
    }
)
"""Each has a module of its name with `collect(context, args)`; nothing else is ever imported."""

SUPPLIED = frozenset({"location", "instance"})

_LARGEST_TOTAL = 120 * 1024
_LARGEST_INTEGER = 2**53 - 1
_DEEPEST = 11
_ERROR_LENGTH = 300


def names() -> list[str]:
    """Return the names of all facts that this agent can report."""
    return sorted(PROBES | SUPPLIED)


def collect(
    requests: Sequence[FactRequest], context: Context, budget: float | None = None
) -> dict[str, Fact]:
    """Return one fact per request, collected side by side within `budget` seconds.

    A probe that fails or takes too long gives a fact with an error.
    """
    tasks = [_Task(request, context) for request in requests]
    for task in tasks:
        task.start()
    limit = context.timeout if budget is None else min(budget, context.timeout)
    return _fit({task.request.name: task.result(limit) for task in tasks})


class _Task:
    def __init__(self, request: FactRequest, context: Context) -> None:
        self.request = request
        self._context = context
        self._fact: Fact | None = None
        self._ended = threading.Event()

    def start(self) -> None:
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        try:
            value = clean(_ask(self.request, self._context))
            self._fact = Fact(value, "claimed", None)
        except AgentError as error:
            self._fact = _failed(str(error))
        except Exception as error:
            self._fact = _failed(f"the probe failed: {type(error).__name__}")
        self._ended.set()

    def result(self, limit: float) -> Fact:
        self._ended.wait(limit)
        return self._fact or _failed(f"not known within {limit:g} s")


def _ask(request: FactRequest, context: Context) -> Any:
    if request.name in context.supplied:
        return context.supplied[request.name]()
    if request.name not in PROBES:
        raise ProbeError("this agent knows no such fact")
    module = importlib.import_module(f"securecloud_agent.probes.{request.name}")
    return module.collect(context, request.args)


def _failed(reason: str) -> Fact:
    return Fact(None, None, printable(reason, _ERROR_LENGTH))


def clean(value: Any, depth: int = 1) -> Any:
    """Return `value` as it may travel; text from files may hold what the wire does not take."""
    if depth > _DEEPEST:
        raise ProbeError("the value nests too deep")
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode("utf-8").replace("\0", "?")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        if abs(value) > _LARGEST_INTEGER:
            raise ProbeError("a number is too large")
        return value
    if isinstance(value, list | tuple):
        return [clean(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {clean(str(name)): clean(item, depth + 1) for name, item in value.items()}
    raise ProbeError(f"a value is of a type that does not travel: {type(value).__name__}")


def _fit(facts: dict[str, Fact]) -> dict[str, Fact]:
    """Give up the largest facts until the evidence fits into one message."""
    sizes = {
        name: len(json.dumps(fact.value, ensure_ascii=False).encode())
        for name, fact in facts.items()
    }
    while sum(sizes.values()) > _LARGEST_TOTAL:
        largest = max(sizes, key=lambda name: sizes[name])
        facts[largest] = _failed(
            f"{sizes.pop(largest)} octets are too much for one message; name fewer in the policy"
        )
    return facts
