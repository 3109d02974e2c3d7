"""Our agent as the collection installs it, and a management server on this host's loopback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.boot_machine import BootError, user_unit
from benchmarks.cpu import tree_seconds
from benchmarks.securecloud import Server, rule
from lab.inventory import inventory
from lab.lab import Lab
from lab.machine import Machine
from lab.place import ROOT

DISK = "agent"
_DEVICE = "bench-data"
_POLICY: dict[str, Any] = {
    "rules": [
        rule("os.id", "one_of", ["debian", "ubuntu"]),
        rule("os.version_id", "at_least", "12"),
        rule("kernel.release", "at_least", "5.10"),
        rule("host_name", "matches", ".+"),
        rule("location.region", "equals", "lab"),
        rule("users", "excludes", ["toor"]),
        rule("request.source_ip", "in_networks", ["127.0.0.0/8"]),
        rule("request.clock_skew_seconds", "between", [-60, 60]),
        rule("device.access", "equals", "read-write"),
        {"jmespath": "starts_with(file_digests.\"/usr/lib/os-release\", 'sha256:')"},
    ],
    "on_match": {"action": "approve"},
    "on_fail": {"action": "deny"},
}


class OurAgent:
    """A contender of the boot benchmark (see `boot_machine.Contender`)."""

    name = "securecloud"
    where = "/srv/agent"
    masked: tuple[str, ...] = ("securecloud-agent.service",)
    counted: tuple[str, ...] = (
        "securecloud-agent.service",
        f"securecloud-volume@{_DEVICE}.service",
    )

    def __init__(self, server: Server) -> None:
        self._server = server

    def prepare(self, lab: Lab, machine: Machine, work: Path) -> None:
        """Push the policy, and run the playbook `site` for the machine."""
        self._server.api.call("PUT", "/policies/bench", _POLICY)
        hosts = work / "inventory.json"
        hosts.write_text(json.dumps(self._inventory(lab, machine), indent=1))
        log = work / "playbook.log"
        command = [str(Path(sys.executable).with_name("ansible-playbook")), "--limit", "agents"]
        with log.open("wb") as output:
            done = subprocess.run(
                [*command, "--inventory", str(hosts), "playbooks/site.yml"],
                cwd=ROOT,
                env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
                stdout=output,
                stderr=output,
                check=False,
            )
        if done.returncode != 0:
            raise BootError(f"the playbook failed:\n{log.read_text()[-3000:]}")

    def _inventory(self, lab: Lab, machine: Machine) -> dict[str, Any]:
        host = inventory(lab)["_meta"]["hostvars"][machine.name] | {
            "agent_wheelhouse": str(ROOT / "build/wheelhouse/agent"),
            "agent_servers": ["https://keys.lab"],
            "agent_ca_src": str(lab.tls / "ca.pem"),
            "agent_region": "lab",
            "agent_api_host": "localhost",
            "agent_api_url": f"https://localhost:{self._server.port}",
            "agent_api_ca_file": str(lab.tls / "ca.pem"),
            "agent_api_token_file": str(self._server.token),
            "agent_required_by": [user_unit(self.where)],
            "securecloud_devices": [
                {
                    "name": _DEVICE,
                    "policy": "bench",
                    "volume": {
                        "source": f"/dev/disk/by-id/virtio-{DISK}",
                        "filesystem": "ext4",
                        "mount_point": self.where,
                        "initialise": "if_blank",
                    },
                }
            ],
        }
        here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        agents = {"hosts": {machine.name: host}}
        return {"all": {"hosts": {"localhost": here}, "children": {"agents": agents}}}

    def server_cpu(self) -> float:
        """Return the CPU seconds of the management server so far."""
        return tree_seconds(self._server.pid)

    def version(self, machine: Machine) -> str:
        """Return the version of the agent."""
        return machine.ssh("/opt/securecloud/agent/bin/securecloud-agent --version").strip()
