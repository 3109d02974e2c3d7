"""Prometheus metrics of this node."""

import os

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """The node's counters.

    They live in the memory of the one process that serves; where several do, set
    PROMETHEUS_MULTIPROC_DIR to a directory that is empty at the start, and any of them can render
    the sum.
    """

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._decisions = Counter(
            "securecloud_decisions",
            "Decisions on devices, by outcome and code",
            ("outcome", "code"),
            registry=self._registry,
        )
        self._volumes = Counter(
            "securecloud_volumes_acknowledged",
            "What agents said became of volumes: mounted, opened, verified, checked, grace,"
            " offline, suspended, closed, failed",
            ("result",),
            registry=self._registry,
        )
        self._refusals = Counter(
            "securecloud_agent_refusals",
            "Messages of agents that were refused, by step and error code",
            ("step", "code"),
            registry=self._registry,
        )
        self._waiting = Gauge(
            "securecloud_waiting_agents",
            "Agents that wait to be told of a check, or went away in the last minute",
            registry=self._registry,
            multiprocess_mode="livesum",
        )
        self._seconds = Histogram(
            "securecloud_agent_step_seconds",
            "Time to answer a message of an agent",
            ("step",),
            buckets=_SECONDS,
            registry=self._registry,
        )

        self._unavailable = Gauge(
            "securecloud_keys_unavailable",
            "Keys that could not be fetched when all were tried the last time",
            registry=self._registry,
            multiprocess_mode="mostrecent",
        )
        self._kept = Gauge(
            "securecloud_cached_keys",
            "Keys of the KMIP server that are in memory for some seconds",
            registry=self._registry,
            multiprocess_mode="livesum",
        )

    def decision(self, outcome: str, code: str) -> None:
        """Count a decision on a device."""
        self._decisions.labels(outcome, code).inc()

    def acknowledged(self, result: str) -> None:
        """Count what became of a volume on its machine."""
        self._volumes.labels(result).inc()

    def refusal(self, step: str, code: str) -> None:
        """Count a refused message."""
        self._refusals.labels(step, code).inc()

    def waiting(self, change: int) -> None:
        """Count agents that begin (1) or cease (-1) to wait."""
        self._waiting.inc(change)

    def answered(self, step: str, seconds: float) -> None:
        """Record how long an answer took."""
        self._seconds.labels(step).observe(seconds)

    def unavailable_keys(self, number: int) -> None:
        """Record how many keys could not be fetched."""
        self._unavailable.set(number)

    def kept_keys(self, change: int) -> None:
        """Count keys that begin (1) or cease (-1) to be kept in memory."""
        self._kept.inc(change)

    def render(self) -> bytes:
        """Return the text exposition format."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        multiprocess.MultiProcessCollector(together)  # type: ignore[no-untyped-call]  # its own
        return generate_latest(together)
