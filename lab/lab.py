"""A lab: several machines that know one management server, in one directory."""

import fcntl
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from demo.ca import ensure_certificates
from lab.image import ensure_image
from lab.machine import Machine, Plan
from lab.place import ROOT, LabError, cache, say

SERVER = "server"
SERVER_NAMES = ("keys.lab", "localhost")
_HTTPS = 8443
_ISCSI = 3260

STANDARD = (
    Plan(SERVER, forwards=(_HTTPS, _ISCSI)),
    Plan("agent1", disks={"data": "256M", "archive": "160M"}),
    Plan("agent2", disks={"data": "256M", "plain": "192M"}),
)


class Lab:
    """The machines below `directory`."""

    def __init__(self, directory: Path = ROOT / "build/lab") -> None:
        self.directory = directory.resolve()
        self._machines = self.directory / "machines"

    @property
    def tls(self) -> Path:
        """Where ca.pem, server.pem and server.key are."""
        return self.directory / "tls"

    def machines(self) -> list[Machine]:
        """Return the machines that were made, whether they run or not."""
        return [Machine(each.parent) for each in sorted(self._machines.glob("*/machine.json"))]

    def machine(self, name: str) -> Machine:
        """Return the machine `name`."""
        directory = self._machines / name
        if not (directory / "machine.json").exists():
            known = ", ".join(each.name for each in self.machines()) or "none; `make lab` first"
            raise LabError(f"there is no machine {name} in this lab; there are: {known}")
        return Machine(directory)

    def make(self, plans: Sequence[Plan], *, with_peers: bool = False) -> list[Machine]:
        """Make what is missing of the machines of `plans`, and return them."""
        image = ensure_image(cache(), with_peers=with_peers)
        ensure_certificates(self.tls, SERVER_NAMES)
        fresh = [plan for plan in plans if not (self._machines / plan.name).exists()]
        made = {plan.name: Machine.make(self._machines / plan.name, plan, image) for plan in fresh}
        return [made.get(plan.name) or self.machine(plan.name) for plan in plans]

    def up(self, plans: Sequence[Plan] = STANDARD) -> None:
        """Make what is missing, start everything and wait until every machine answers."""
        with self._alone():
            machines = self.make(plans)
            self._connect(machines)
            say(f"starting {', '.join(each.name for each in machines)}")
            for machine in machines:
                machine.start()
            for machine in machines:
                machine.wait_for_ssh()
                say(f"{machine.name} answers")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Wait for another `up` or `down`: what an aborted one starts would be left running."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _connect(self, machines: Sequence[Machine]) -> None:
        """Let every machine reach the server's machine as https://keys.lab, and its disks."""
        server = next((each for each in machines if each.name == SERVER), None)
        for machine in machines:
            machine.reach(server.port(_HTTPS) if server else None)
            machine.reach(server.port(_ISCSI) if server else None, of=_ISCSI)

    def reboot(self) -> None:
        """Reboot every machine in order, all at once, and wait until they answer again."""
        machines = self.machines()
        before = {machine.name: machine.boot_id() for machine in machines}
        for machine in machines:
            machine.ssh("systemctl reboot", check=False)
        for machine in machines:
            machine.wait_for_new_boot(before[machine.name])
            say(f"{machine.name} answers again")

    def down(self) -> None:
        """Switch everything off and remove it; the image stays."""
        with self._alone():
            for machine in self.machines():
                machine.remove()
            shutil.rmtree(self._machines, ignore_errors=True)
            shutil.rmtree(self.tls, ignore_errors=True)
