"""A machine with an agent, and the server's API, for the tests."""

import json
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lab.machine import Machine

PATIENCE = 240.0
_POLL = 0.5
_LOOK_AGAIN = 10.0
ELSEWHERE = [{"fact": "location.region", "operator": "equals", "value": "elsewhere"}]
"""Rules that none of the machines meets."""
_PAUSE = threading.Event()
_TRACES = "cat /var/lib/securecloud/agent/status.json /proc/self/mountinfo; ls /dev/mapper"
"""What changes, as a rule, when the state of a volume does."""


def eventually(what: str, holds: Callable[[], Any], seconds: float = PATIENCE) -> Any:
    """Return what `holds` returns as soon as it is true."""
    give_up = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < give_up, f"not within {seconds:g} s: {what}"
        _PAUSE.wait(_POLL)
    return found


class Guest:
    """A machine with an agent."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.name = machine.name

    def run(self, command: str, *, check: bool = True, stdin: str | None = None) -> str:
        return self.machine.ssh(command, check=check, stdin=stdin)

    def agent(self, command: str, *, check: bool = True) -> str:
        return self.run(f"/opt/securecloud/agent/bin/securecloud-agent {command} 2>&1", check=check)

    def boot(self, kernel_words: str = "", *, secure_boot: bool, tpm: bool = False) -> None:
        """Shut down, and start with UEFI firmware."""
        self.machine.shut_down()
        self.machine.start(kernel_words, secure_boot=secure_boot, tpm=tpm)
        self.machine.wait_for_ssh()

    def status(self, device: str) -> dict[str, Any]:
        text = self.run("/opt/securecloud/agent/bin/securecloud-agent status --json")
        devices = {each["device"]: each for each in json.loads(text)["devices"]}
        return devices.get(device, {"volume": "closed", "outcome": None, "detail": None})

    def until(self, device: str, volume: str, **wanted: Any) -> dict[str, Any]:
        """Wait until the agent says that the device's volume is this, and has these values."""
        seen: dict[str, Any] = {}
        traces, look_at = "", 0.0

        def holds() -> bool:
            # The agent's answer costs an emulated machine a second, of which the agent has need.
            nonlocal traces, look_at
            found, now = self.run(_TRACES, check=False), time.monotonic()
            if found == traces and now < look_at:
                return False
            traces, look_at = found, now + _LOOK_AGAIN
            seen.update(self.status(device))
            return {**seen, **wanted, "volume": volume} == seen

        try:
            eventually(f"{device} {volume} {wanted}", holds)
        except AssertionError as error:
            raise AssertionError(f"{error}; it is {seen}\n{self.journal()}") from None
        return seen

    def check_now(self) -> None:
        self.run("systemctl reload securecloud-agent")

    def is_active(self, unit: str) -> bool:
        return self.run(f"systemctl is-active {unit}", check=False).strip() == "active"

    def shown(self, unit: str, key: str) -> str:
        return self.run(f"systemctl show --property {key} --value {unit}").strip()

    def journal(self, unit: str = "securecloud-agent") -> str:
        return self.run(f"journalctl --boot --no-pager --output cat --unit {unit}")

    def mapped(self) -> list[str]:
        return sorted(self.run("ls /dev/mapper").split())

    def bare(self, path: str) -> list[str]:
        """Return what lies below `path` on the root disk, under whatever is mounted there."""
        look = f"mount --bind / /mnt && ls -A /mnt{path}; umount /mnt"
        return self.run(f"unshare --mount sh -c '{look}'", check=False).split()


class Api:
    """The management server's API, from this host."""

    def __init__(self, port: int, ca_file: Path, token: str) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(ca_file))
        self._token = token

    def __call__(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            f"https://localhost:{self._port}/api/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": f"Bearer {self._token}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, timeout=60, context=self._context) as answer:
                return json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{method} {path}: {error.code} {error.read()!r}") from None

    def change_rules(self, policy: str, rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Replace a policy's rules; return those that it had."""
        found = self("GET", f"/policies/{policy}")
        body = {key: found[key] for key in ("description", "on_match", "on_fail")}
        self("PUT", f"/policies/{policy}", {**body, "rules": rules})
        before: list[dict[str, Any]] = found["rules"]
        return before

    def register(self, device: str, agent: str, group: str | None = None, **volume: Any) -> None:
        """Register a device, in the group of its machine if none is given."""
        body = {"agent": agent, "group": group or agent, "volume": volume}
        self("PUT", f"/devices/{device}", body)


def comes_up(guest: Guest) -> None:
    """It boots to a system in which one can work, whatever became of its volumes."""
    guest.machine.wait_for_ssh()
    eventually("multi-user.target", lambda: guest.is_active("multi-user.target"))


def until_told(guest: Guest, text: str) -> None:
    eventually(f"told: {text}", lambda: text in guest.journal())


def opens(guest: Guest) -> None:
    guest.until(f"{guest.name}-data", "mounted")
    eventually("the writer runs", lambda: guest.is_active("writer.service"))
