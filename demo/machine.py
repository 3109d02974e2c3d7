"""This machine as the demo uses it: paths below `.demo`, a free port, and the real commands."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


_TASKS = ("TASK", "changed:", "FAILED")
_RECAP = ("fatal:", "PLAY RECAP")


class StepFailed(Exception):
    """A command of the demo did not do what it should; the message says how to look closer."""


@dataclass(frozen=True, slots=True)
class Machine:
    """Where things are, and how to run them."""

    root: Path
    demo: Path
    port: int

    @classmethod
    def here(cls) -> "Machine":
        """Return this checkout's demo, with the port of an earlier run if there was one."""
        demo = ROOT / ".demo"
        variables = demo / "vars.json"
        if variables.exists():
            port = int(json.loads(variables.read_text())["demo_port"])
        else:
            with socket.create_server(("127.0.0.1", 0)) as probe:
                port = probe.getsockname()[1]
        return cls(ROOT, demo, port)

    @property
    def path(self) -> str:
        """PATH with the administrator's directories, where cryptsetup lives."""
        return os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/sbin"])

    @property
    def url(self) -> str:
        """The management server's address."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def agent(self) -> list[str]:
        """The agent's command."""
        return [
            str(self.demo / "agent/venv/bin/securecloud-agent"),
            "--config",
            str(self.demo / "agent/etc/agent.toml"),
        ]

    @property
    def server(self) -> list[str]:
        """The server's command."""
        return [
            str(self.demo / "server/venv/bin/securecloud-server"),
            "--config",
            str(self.demo / "server/etc/server.toml"),
        ]

    def remember(self) -> None:
        """Keep what the playbooks need to know, and the port for the next run."""
        self.demo.mkdir(mode=0o700, exist_ok=True)
        variables = {"demo_root": str(self.demo), "demo_port": self.port}
        (self.demo / "vars.json").write_text(json.dumps(variables))

    def play(self, playbook: str, *, brief: bool = False) -> str:
        """Run a playbook against inventories/local and return its output.

        Shows the tasks and what they changed; with `brief` only the recap.
        """
        command = [
            str(Path(sys.executable).with_name("ansible-playbook")),
            *("-i", "inventories/local", playbook),
            *("-e", f"@{self.demo / 'vars.json'}"),
        ]
        log = self.demo / "ansible.log"
        return self._shown(command, log, _RECAP if brief else _TASKS + _RECAP)

    def _shown(self, command: list[str], log: Path, shown: tuple[str, ...]) -> str:
        environment = {**os.environ, "PATH": self.path, "ANSIBLE_HOME": str(self.demo / "ansible")}
        lines = []
        with subprocess.Popen(
            command,
            cwd=self.root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process:
            assert process.stdout
            for line in process.stdout:
                lines.append(line)
                if line.startswith(shown) or (" changed=" in line and " ok=" in line):
                    print(f"    {line.rstrip()[:120]}")
        output = "".join(lines)
        with log.open("a") as file:
            file.write(output)
        if process.returncode != 0:
            tail = "".join(lines[-30:])
            raise StepFailed(f"{' '.join(command)} failed; all of its output is in {log}\n{tail}")
        return output

    def ask(self, command: list[str], *accepted: int) -> dict[str, Any]:
        """Run one of our commands with --json; raise unless it exits with an accepted code."""
        environment = {**os.environ, "PATH": self.path}
        done = subprocess.run(
            [*command, "--json"], env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode not in (accepted or (0,)):
            words = f"{' '.join(command)} ended with {done.returncode}"
            raise StepFailed(f"{words}\n{done.stdout}{done.stderr}")
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer

    def stop(self) -> int:
        """Stop the supervisors that the roles started, by their own pid files."""
        stopped = 0
        for pid_file in self.demo.glob("*/run/supervisord.pid"):
            with contextlib.suppress(ValueError, ProcessLookupError):
                os.kill(int(pid_file.read_text()), signal.SIGTERM)
                stopped += 1
        print(f"stopped {stopped} supervised process groups" if stopped else "nothing was running")
        return 0
