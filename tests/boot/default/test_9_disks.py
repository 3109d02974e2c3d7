"""Switched off: what somebody who takes the disks can read."""

from pathlib import Path

from lab.lab import Lab
from lab.machine import Machine
from tests.boot.guests import Api, Guest
from tests.boot.keys import Keys, on_disks


def test_no_disk_holds_a_key(
    lab: Lab, server: Machine, api: Api, agent1: Guest, agent2: Guest, keys: Keys, tmp_path: Path
) -> None:
    """Every device key and every volume key, on the agents' root and data disks."""
    del api
    wanted = dict(keys.of_devices)
    for guest in (agent1, agent2):
        for serial in guest.machine.facts.disks:
            device = f"{guest.name}-{serial}"
            if device in keys.of_devices:
                disk = guest.machine.disk(serial)
                wanted[f"volume {device}"] = keys.of_volume(disk, device)
    assert len(wanted) >= 4
    for machine in lab.machines():
        machine.shut_down()
    assert [hit for guest in (agent1, agent2) for hit in on_disks(guest, wanted, tmp_path)] == []
