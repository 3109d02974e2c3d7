"""The playbooks on this machine, without root and without systemd."""

import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

from demo.ca import ensure_certificates
from tests.support.live import BIN

ROOT = Path(__file__).parents[2]


class Site:
    """Our playbooks with the local inventory, below a directory of its own."""

    def __init__(self, directory: Path) -> None:
        self.root = directory / "demo"
        ensure_certificates(self.root / "tls")
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self._home = directory / "ansible"

    def run(
        self, *options: str, playbook: str = "site", **variables: Any
    ) -> tuple[dict[str, int], str]:
        """Run a playbook; return the recap and all output."""
        given = {"demo_root": str(self.root), "demo_port": self.port, **variables}
        path = os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])
        done = subprocess.run(
            [
                *(BIN / "ansible-playbook", "-i", ROOT / "inventories/local", *options),
                *("-e", json.dumps(given), ROOT / f"playbooks/{playbook}.yml"),
            ],
            env={
                **os.environ,
                "PATH": path,
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_HOME": str(self._home),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        output = done.stdout + done.stderr
        assert done.returncode == 0, output
        recap = dict(re.findall(r"(\w+)=(\d+)", output.rsplit("PLAY RECAP", 1)[1]))
        return {key: int(value) for key, value in recap.items()}, output

    def agent(self, command: str, code: int = 0) -> dict[str, Any]:
        """Run a command of the agent; return what it said."""
        program = self.root / "agent/venv/bin/securecloud-agent"
        done = subprocess.run(
            [program, "--config", self.root / "agent/etc/agent.toml", command, "--json"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        answer: dict[str, Any] = json.loads(done.stdout or "{}")
        return answer

    def status(self) -> dict[str, Any]:
        return self.agent("status")

    def granted(self) -> bool:
        """Lock the device, ask for its key, and say whether it was given."""
        self.agent("lock")
        (device,) = self.agent("unlock")["devices"]
        return bool(device["outcome"] == "granted")

    def stop(self) -> None:
        for pid_file in self.root.glob("*/run/supervisord.pid"):
            os.kill(int(pid_file.read_text()), signal.SIGTERM)
