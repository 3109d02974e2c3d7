"""After a boot: what needs a volume waits for it, and a refused or lonely machine is usable."""

import pytest

from tests.boot.guests import Guest, eventually

OPENED = "securecloud-volume@{}.service"


def test_the_writer_ran_after_its_volume_was_mounted(agent1: Guest) -> None:
    agent1.until("agent1-data", "mounted")
    eventually("the writer runs", lambda: agent1.is_active("writer.service"))
    mounted = int(agent1.shown("srv-data.mount", "ActiveEnterTimestampMonotonic"))
    started = int(agent1.shown("writer.service", "ExecMainStartTimestampMonotonic"))
    assert 0 < mounted < started
    assert agent1.bare("/srv/data") == []


def test_shutting_down_closed_the_volume_in_order(agent1: Guest) -> None:
    told = agent1.run("journalctl --boot=-1 --no-pager --output cat")
    assert "Unmounted srv-data.mount" in told
    assert "Failed unmounting" not in told
    dirty = agent1.run("journalctl --boot --dmesg --no-pager --output cat")
    assert "recovery complete" not in dirty.split("dm-0")[-1]


def test_the_agent_says_how_it_stands(agent1: Guest) -> None:
    assert agent1.shown("securecloud-agent", "StatusText") == "agent1-data: granted, mounted"
    assert agent1.shown("securecloud-agent", "NotifyAccess") == "main"
    told = agent1.run("systemctl status srv-data.mount securecloud-volume@agent1-data --no-pager")
    assert "Encrypted volume agent1-data" in told
    assert "Opened by SecureCloud: agent1-data" in told


@pytest.fixture(scope="module")
def intruded(agent2: Guest) -> Guest:
    """A machine that the policy refuses, switched off and on."""
    agent2.run("useradd --create-home --shell /bin/bash intruder")
    agent2.machine.reboot()
    return agent2


def test_a_refused_machine_boots_to_a_usable_system(intruded: Guest) -> None:
    eventually("multi-user.target", lambda: intruded.is_active("multi-user.target"))
    intruded.until("agent2-data", "closed", outcome="denied")
    eventually("jobs are done", lambda: "No jobs" in intruded.run("systemctl list-jobs"))
    assert intruded.mapped() == ["control"]
    assert not intruded.is_active("writer.service")
    assert intruded.bare("/srv/data") == []


def test_it_says_why_wherever_one_would_look(intruded: Guest) -> None:
    assert "denied (policy)" in intruded.journal()
    assert "denied (policy)" in intruded.agent("status")
    unit = OPENED.format("agent2-data")
    assert "denied (policy)" in intruded.run(f"systemctl status {unit} --no-pager", check=False)
    told = intruded.run("journalctl --boot --no-pager --output cat --unit writer.service")
    assert "Dependency failed for writer.service" in told


def test_it_opens_without_a_reboot_once_it_complies(intruded: Guest) -> None:
    intruded.run("userdel --remove intruder")
    intruded.check_now()
    intruded.until("agent2-data", "mounted")
    eventually("the writer runs", lambda: intruded.is_active("writer.service"))
    assert intruded.is_active("srv-data.mount")


def test_a_boot_without_a_server_ends_and_says_why(agent1: Guest) -> None:
    agent1.machine.reach(None)
    agent1.machine.reboot()
    eventually("multi-user.target", lambda: agent1.is_active("multi-user.target"))
    eventually(
        "the reason", lambda: "https://keys.lab" in agent1.shown("securecloud-agent", "StatusText")
    )
    assert agent1.status("agent1-data")["outcome"] == "failed"
    assert not agent1.is_active("writer.service")


def test_it_says_so_once_and_fails_by_the_reason_not_by_a_time_out(agent1: Guest) -> None:
    told = [line for line in agent1.journal().splitlines() if "https://keys.lab" in line]
    assert len(told) == 1
    unit = OPENED.format("agent1-data")
    eventually("the reason", lambda: "failed (unreachable)" in agent1.journal(unit))
    boot = agent1.run("journalctl --boot --no-pager --output cat")
    assert "Timed out waiting for device" not in boot


def test_it_opens_by_itself_when_the_server_is_back(agent1: Guest, server_port: int) -> None:
    agent1.machine.reach(server_port)
    agent1.until("agent1-data", "mounted")
    eventually("the writer runs", lambda: agent1.is_active("writer.service"))
    assert agent1.bare("/srv/data") == []
