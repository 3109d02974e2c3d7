"""An administrator's executables in hooks.d, told what becomes of volumes (docs/revocation.md).

Whoever could write one would be root, so only what root alone can change is run. A hook is told and
not asked: whatever it does, and if it hangs, the volume goes its way when its time is over.
"""

import re
from pathlib import Path

from securecloud_agent.errors import AgentError, say, warn
from securecloud_agent.run import ScriptRunner, run_script
from securecloud_agent.trust import why_not_file, why_not_folder

_NAME = re.compile(r"[A-Za-z0-9_-]+")
"""As run-parts(8) has it: no dots, so that backups and what package managers leave is not run."""

_SECONDS = 30.0
_MOST_LINES = 100


class Hooks:
    """The hooks in `folder`; none without one."""

    def __init__(
        self,
        folder: Path | None = None,
        run: ScriptRunner = run_script,
        seconds: float = _SECONDS,
    ) -> None:
        self._folder = folder
        self._run = run
        self._seconds = seconds

    def tell(self, event: str, device: str, mount_point: str = "", seconds_left: int = 0) -> None:
        """Run every hook, one after the other in the order of their names; nothing is raised."""
        environment = {
            "SECURECLOUD_EVENT": event,
            "SECURECLOUD_DEVICE": device,
            "SECURECLOUD_MOUNT_POINT": mount_point,
            "SECURECLOUD_SECONDS_LEFT": str(seconds_left),
        }
        for path in self._sound():
            self._call(path, [event, device], environment)

    def _sound(self) -> list[Path]:
        """Return what may be run; what may not, though it looks as if it were meant to, is told."""
        if self._folder is None:
            return []
        try:
            names = sorted(each.name for each in self._folder.iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            warn(f"{self._folder} cannot be read: {error.strerror}")
            return []
        problem = why_not_folder(self._folder) if names else None
        if problem:
            warn(f"no hook is run: {problem}")
            return []
        return [path for name in names if self._is_sound(path := self._folder / name)]

    def _is_sound(self, path: Path) -> bool:
        try:
            executable = bool(path.lstat().st_mode & 0o111)
        except OSError:
            return False
        problem = _why_not(path)
        if problem is None:
            return executable
        # A file that nobody meant to run may have any name and mode.
        if executable:
            warn(f"the hook {path} is not run: {problem}")
        return False

    def _call(self, path: Path, words: list[str], environment: dict[str, str]) -> None:
        lines = 0

        def line(octets: bytes) -> None:
            nonlocal lines
            lines += 1
            if lines <= _MOST_LINES:
                say(f"hook {path.name}: {octets.decode('utf-8', 'replace')}")
            elif lines == _MOST_LINES + 1:
                warn(f"the hook {path.name} writes more than {_MOST_LINES} lines; the rest is lost")

        try:
            status = self._run(
                path, words, environment=environment, timeout=self._seconds, line=line
            )
        except AgentError as error:
            warn(f"the hook {path.name} ({' '.join(words)}): {error}")
            return
        if status != 0:
            ended = f"by signal {-status}" if status < 0 else f"with exit status {status}"
            warn(f"the hook {path.name} ({' '.join(words)}) ended {ended}")


def _why_not(path: Path) -> str | None:
    named = _NAME.fullmatch(path.name)
    problem = why_not_file(path)
    return problem if problem or named else "its name may have letters, digits, `_` and `-` only"
