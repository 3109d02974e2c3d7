"""The lab as Ansible sees it."""

import shlex
from typing import Any

from lab.lab import SERVER, Lab
from lab.machine import Machine
from lab.place import LabError


def inventory(lab: Lab) -> dict[str, Any]:
    """Return the inventory of a lab that was made, in the form of an inventory script."""
    machines = lab.machines()
    if not machines:
        raise LabError("no machine was made yet: run `make lab`")
    agents = [each.name for each in machines if each.name != SERVER]
    return {
        "management_servers": {"hosts": [SERVER]},
        "agents": {"hosts": agents},
        "_meta": {"hostvars": {each.name: _variables(each) for each in machines}},
        "all": {
            "children": ["management_servers", "agents"],
            "vars": {"lab_tls": str(lab.tls)},
        },
    }


def _variables(machine: Machine) -> dict[str, Any]:
    return {
        "ansible_host": "127.0.0.1",
        "ansible_port": machine.port(22),
        "ansible_user": "root",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_private_key_file": machine.facts.key,
        "ansible_ssh_common_args": shlex.join(machine.ssh_options()),
        "ansible_host_key_checking": True,
        "lab_directory": str(machine.directory),
    }
