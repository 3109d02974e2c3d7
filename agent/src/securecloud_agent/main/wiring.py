"""Puts the parts together for one command."""

import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from securecloud_agent.config import Settings, load
from securecloud_agent.errors import AgentError
from securecloud_agent.run import follow, run
from securecloud_agent.state.files import only_instance, private_directory
from securecloud_agent.state.memory import BootMarks, Memory

if TYPE_CHECKING:
    from securecloud_agent.main.graces import Graces
    from securecloud_agent.main.offline import OfflineKeys
    from securecloud_agent.main.reports import Reports
    from securecloud_agent.probes.context import Context
    from securecloud_agent.volumes.encryptions import Encryptions
    from securecloud_agent.volumes.volumes import Volumes

_ROOT = Path("/")


def _since_boot() -> float:
    """Seconds since this boot, also those in which the machine slept; nobody can set it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class Clocks:
    """Time and chance; the tests turn them."""

    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    since_boot: Callable[[], float] = _since_boot
    pause: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


@dataclass(frozen=True, slots=True)
class Agent:
    """Settings and the agent's own files; other parts are made when a command needs them."""

    settings: Settings
    memory: Memory
    marks: BootMarks
    boot_id: str
    clocks: Clocks
    encryptions: "Encryptions"
    settings_dir: Path

    @property
    def lock_file(self) -> Path:
        """Held by whoever exchanges, opens or locks."""
        return self.settings.state_dir / "lock"

    @property
    def service_lock(self) -> Path:
        """Held by the service as long as it runs; its process id is in it."""
        return self.settings.state_dir / "run.lock"

    def volumes(self) -> "Volumes":
        """Return the machine's volumes."""
        from securecloud_agent.volumes.header_copies import HeaderCopies
        from securecloud_agent.volumes.hooks import Hooks
        from securecloud_agent.volumes.iscsi import Sessions
        from securecloud_agent.volumes.kernel import Kernel
        from securecloud_agent.volumes.mounts import Direct, Systemd
        from securecloud_agent.volumes.rotation import Rotations
        from securecloud_agent.volumes.volumes import Volumes
        from securecloud_agent.volumes.work import Tools

        mounts = Systemd(run) if self.settings.mounts == "systemd" else Direct()
        copies = HeaderCopies(self.settings.state_dir / "headers")
        kernel, encryptions = Kernel(_ROOT), self.encryptions
        clocks = self.clocks
        sessions = Sessions(
            run, kernel, self.memory, self.marks, encryptions, clocks.monotonic, clocks.pause
        )
        return Volumes(
            Tools(
                run,
                kernel,
                self.marks,
                encryptions,
                copies,
                Rotations(run, self.memory, copies),
                sessions,
                mounts=mounts,
                hooks=Hooks(self.settings_dir / "hooks.d"),
            )
        )

    def graces(self) -> "Graces":
        """Return the graces that run on this machine."""
        from securecloud_agent.main.graces import Graces

        return Graces(self.marks, self.clocks.since_boot)

    def reports(self) -> "Reports":
        """Return what a server is still to be told."""
        from securecloud_agent.main.reports import Reports

        return Reports(self.marks)

    def offline_keys(self) -> "OfflineKeys":
        """Return the keys that this machine keeps for boots without a server."""
        from securecloud_agent.main.offline import OfflineKeys
        from securecloud_agent.sealing.store import Store
        from securecloud_agent.sealing.tpm import Tpm

        store = Store(self.settings.state_dir)
        tpm = Tpm(run, self.settings.run_dir / "agent")
        return OfflineKeys(store, tpm, self.marks, self.boot_id, self.clocks.now)

    def probe_context(self) -> "Context":
        """Return what the probes get."""
        from securecloud_agent.probes.context import Context
        from securecloud_agent.providers.provider import load as load_provider

        provider = load_provider(self.settings.provider)(self.settings.location, _ROOT)
        return Context(
            root=_ROOT,
            timeout=self.settings.probe_timeout,
            clock=self.clocks.now,
            supplied={"location": provider.location, "instance": provider.instance},
            probes_dir=self.settings_dir / "probes.d",
        )


def service_pid(agent: Agent) -> int | None:
    """Return the process id of the running service; its lock file says whether it runs."""
    try:
        with only_instance(agent.service_lock, "command", wait=0):
            return None
    except AgentError as error:
        if error.code != "busy":
            raise
    with suppress(OSError, ValueError, IndexError):
        return int(agent.service_lock.read_text(encoding="utf-8").split()[1].rstrip(","))
    return None


def read_boot_id() -> str:
    """Return the id of this boot, or a fixed one where the kernel tells none."""
    try:
        return (_ROOT / "proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError as error:
        raise AgentError(f"the kernel's boot id cannot be read: {error.strerror}") from None


def make_agent(config: Path, clocks: Clocks | None = None) -> Agent:
    """Read the settings and see that the agent's folders are there and private."""
    from securecloud_agent.volumes.encryptions import Encryptions

    settings = load(config)
    clocks = clocks or Clocks()
    run_dir = settings.run_dir / "agent"
    private_directory(settings.state_dir)
    private_directory(run_dir)
    boot_id = read_boot_id()
    memory, marks = Memory(settings.state_dir), BootMarks(run_dir, boot_id)
    encryptions = Encryptions(memory, marks, run, follow, clocks.monotonic, clocks.pause)
    return Agent(settings, memory, marks, boot_id, clocks, encryptions, config.absolute().parent)
