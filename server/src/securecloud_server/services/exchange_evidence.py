"""The evidence document of one exchange: what the agent claims and what the server saw itself."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from securecloud_protocol import messages as wire
from securecloud_protocol.server import OpenedEvidence

from securecloud_server.domain import recorded
from securecloud_server.domain.evaluation import Evaluation
from securecloud_server.domain.evidence import Fact, Provenance, agent_evidence
from securecloud_server.domain.facts import WEEKDAYS
from securecloud_server.domain.policy import ActionKind
from securecloud_server.domain.records import Device
from securecloud_server.services.exchange_situation import DeviceView, compiled

_HOUR = 3600


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a policy says about the evidence for one device."""

    evaluation: Evaluation

    @property
    def matched(self) -> bool:
        """Whether all rules together hold."""
        return self.evaluation.matched

    @property
    def action(self) -> ActionKind:
        """What the policy wants done."""
        return self.evaluation.action.kind

    @property
    def delay(self) -> int:
        """Seconds to wait, for approve_after."""
        return self.evaluation.action.delay or 0

    @property
    def failing(self) -> tuple[str, ...]:
        """Return the paths of the rules that failed; none when the policy as a whole holds."""
        return () if self.matched else self.evaluation.failing

    @property
    def rules(self) -> tuple[Mapping[str, Any], ...]:
        """Return each rule beside the machine's value."""
        return tuple(result.to_document() for result in self.evaluation.results)


class EvidenceDocument:
    """The facts of one exchange."""

    def __init__(self, opened: OpenedEvidence, source: str, now: int) -> None:
        self._claims = agent_evidence(
            {name: _document(fact) for name, fact in opened.body.facts.items()}
        )
        self._asked = {fact.name: fact.args for fact in opened.core.facts}
        self._source = source
        self._now = now
        self._skew = opened.state.agent_time - opened.state.issued_at

    def judge(self, view: DeviceView) -> Judgement:
        """Evaluate the policy of a device on the facts and what the server knows of the device."""
        evidence = {**self._seen(view), "device": _observed(device_fact(view.device))}
        return Judgement(compiled(view.policy).evaluate(evidence))

    def document(self) -> dict[str, Any]:
        """Return what is kept of the machine's facts."""
        return recorded.document(self._claims, self._asked)

    def circumstances(self, view: DeviceView) -> dict[str, Any]:
        """Return what is kept of the facts that are another each time."""
        return recorded.circumstances(self._seen(view), self._asked)

    def _seen(self, view: DeviceView) -> dict[str, Fact]:
        return {**self._claims, "request": _observed(self._request_fact(view))}

    def _request_fact(self, view: DeviceView) -> dict[str, Any]:
        first_seen = view.state.first_seen_at
        moment = datetime.fromtimestamp(self._now, UTC)
        return {
            "source_ip": self._source,
            "time": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "weekday": WEEKDAYS[moment.weekday()],
            "first_seen_hours": 0 if first_seen is None else (self._now - first_seen) // _HOUR,
            "clock_skew_seconds": self._skew,
        }


def _document(fact: wire.Fact) -> dict[str, Any]:
    return {"value": fact.value} if fact.error is None else {"error": fact.error}


def device_fact(device: Device) -> dict[str, Any]:
    """Return the fact `device`: what an administrator registered."""
    volume = device.volume
    return {
        "name": device.name,
        "group": device.group,
        "access": "read-only" if volume.get("read_only") else "read-write",
        "mount_point": volume.get("mount_point"),
        "filesystem": volume.get("filesystem", "ext4"),
    }


def _observed(value: dict[str, Any]) -> Fact:
    return Fact(value, Provenance.OBSERVED)
