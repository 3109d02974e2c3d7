"""What became of volumes while no server could be told; it is, in the next acknowledgement."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass

from securecloud_protocol.messages import AckResult

from securecloud_agent.errors import warned
from securecloud_agent.state.files import StateError
from securecloud_agent.state.memory import BootMarks

_REPORT = "report"
_WORTH_TELLING = frozenset({"closed", "suspended"})


@dataclass(frozen=True, slots=True)
class Report:
    """A result as an Ack has it, and a line about it."""

    result: str
    detail: str


class Reports:
    """At most one for each device, the latest. A reboot ends them, as it ends what they tell."""

    def __init__(self, marks: BootMarks) -> None:
        self._marks = marks

    def owe(self, device: str, report: Report) -> None:
        """Remember to tell."""
        with warned(f"what became of {device} could not be remembered for the server"):
            self._marks.put(_REPORT, device, asdict(report))

    def keep(self, results: Iterable[AckResult]) -> None:
        """Remember of an Ack that did not arrive what the server would not learn otherwise."""
        for result in results:
            if result.result in _WORTH_TELLING:
                self.owe(result.device, Report(result.result, result.detail))

    def owed(self, device: str) -> Report | None:
        """Return what is still to be told, if anything."""
        try:
            found = self._marks.content(_REPORT, device)
            return None if found is None else Report(**found)
        except (StateError, TypeError):
            return None

    def told(self, device: str) -> None:
        """Forget it: the server knows."""
        self._marks.clear(_REPORT, [device])
