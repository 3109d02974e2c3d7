"""Devices whose policies have one rule each, so that each says for itself what it saw."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from tests.boot.guests import Api, Guest, eventually


def rule(fact: str, operator: str, value: Any) -> dict[str, Any]:
    return {"fact": fact, "operator": operator, "value": value}


class Devices:
    """A device for each criterion, of one machine."""

    def __init__(self, api: Api, guest: Guest, names: dict[str, dict[str, Any]]) -> None:
        self._api, self._guest, self._names = api, guest, names

    @staticmethod
    def name(criterion: str) -> str:
        return f"criterion-{criterion}"

    def register(self, criterion: str, **volume: Any) -> None:
        name = self.name(criterion)
        body = {
            "agent": self._guest.name,
            "policy": name,
            "volume": {"source": f"/var/tmp/{name}", "initialise": "if_blank", **volume},
        }
        self._api("PUT", f"/devices/{name}", body)

    def judge(self, criterion: str, by: dict[str, Any]) -> None:
        actions = {"on_match": {"action": "approve"}, "on_fail": {"action": "deny"}}
        self._api("PUT", f"/policies/{self.name(criterion)}", {"rules": [by], **actions})

    def make(self) -> None:
        for criterion, each in self._names.items():
            self.judge(criterion, each)
            where = "/srv/criterion" if criterion == "mount-point" else None
            self._guest.run(f"truncate -s 24M /var/tmp/{self.name(criterion)}")
            self.register(criterion, mount_point=where)

    def remove(self) -> None:
        for criterion in self._names:
            self._api("DELETE", f"/devices/{self.name(criterion)}?force=true")
            self._api("DELETE", f"/policies/{self.name(criterion)}")
        self._guest.check_now()
        self._guest.run("rm -f /var/tmp/criterion-*")

    def open(self) -> set[str]:
        mapped = self._guest.mapped()
        return {each for each in self._names if f"sc-{self.name(each)}" in mapped}

    def closed(self) -> set[str]:
        return self._names.keys() - self.open()

    def why(self, criterion: str) -> dict[str, Any]:
        """Return the rule that the newest key request was denied for."""
        found = self._api("GET", f"/key-requests?device={self.name(criterion)}&limit=1")
        (request,) = found["items"]
        assert request["state"] == "denied"
        (failed,) = [each for each in request["rules"] if not each["passed"]]
        return failed


@contextmanager
def made(api: Api, guest: Guest, names: dict[str, dict[str, Any]]) -> Iterator[Devices]:
    devices = Devices(api, guest, names)
    devices.make()
    guest.check_now()
    eventually("every device is open", lambda: not devices.closed())
    yield devices
    devices.remove()
