"""Boots at which something is wrong: a machine that works, and a message that says what to do."""

import time
from collections.abc import Iterator

import pytest

from tests.boot.guests import Guest, comes_up, opens, until_told


@pytest.fixture
def agent(agent2: Guest) -> Iterator[Guest]:
    """The second machine, which has less to do; afterwards its volume is open again."""
    yield agent2
    opens(agent2)


def test_a_clock_that_is_years_off(agent: Guest) -> None:
    """Not more than fifteen: systemd believes no such clock, and sets it to its own release."""
    agent.machine.shut_down()
    agent.machine.start(clock="2035-01-01T00:00:00")
    comes_up(agent)
    until_told(agent, "has expired by this machine's clock")
    assert agent.mapped() == ["control"]
    agent.run(f"date --set @{int(time.time())}")
    agent.check_now()
    opens(agent)
    # Its battery-backed clock would be wrong again after the next reboot.
    agent.machine.shut_down()
    agent.machine.start()
    comes_up(agent)


def test_names_that_cannot_be_resolved(agent: Guest) -> None:
    agent.run("sed -i s/keys.lab/dead.lab/ /etc/hosts")
    agent.machine.reboot()
    comes_up(agent)
    until_told(agent, "https://keys.lab: the host name cannot be resolved")
    agent.run("sed -i s/dead.lab/keys.lab/ /etc/hosts")


def test_a_root_disk_without_room(agent: Guest) -> None:
    # Archived journals would make room at the next boot.
    agent.run("journalctl --quiet --rotate; journalctl --quiet --vacuum-size=1")
    agent.run("dd if=/dev/zero of=/var/tmp/full bs=1M 2>/dev/null; sync", check=False)
    agent.machine.reboot()
    comes_up(agent)
    until_told(agent, "No space left on device")
    agent.run("rm /var/tmp/full")
