"""Denied, pending, approved, revoked: without a reboot, and without a trace in memory."""

from pathlib import Path

from tests.boot.guests import ELSEWHERE, Api, Guest, eventually
from tests.boot.keys import Keys, found, memory, spellings

ARCHIVE = "/srv/archive"


def test_denied_after_a_policy_change(api: Api, agent1: Guest) -> None:
    lines = int(agent1.run("wc -l </srv/data/log/lines"))
    rules = api.change_rules("agent1", ELSEWHERE)
    try:
        agent1.check_now()
        agent1.until("agent1-data", "closed", outcome="denied", code="policy")
        assert agent1.mapped() == ["control"]
        assert not agent1.is_active("writer.service")
        assert not agent1.is_active("srv-data.mount")
        assert agent1.bare("/srv/data") == []
    finally:
        api.change_rules("agent1", rules)
    agent1.check_now()
    agent1.until("agent1-data", "mounted")
    eventually("the writer runs", lambda: agent1.is_active("writer.service"))
    assert int(agent1.run("wc -l </srv/data/log/lines")) >= lines


def test_pending_until_a_person_approves(api: Api, agent1: Guest, module, api_options) -> None:
    """A second device with another policy, on which this machine has a person too many."""
    agent1.run("useradd --shell /bin/bash intruder")
    api.register(
        "agent1-archive",
        "agent1",
        "archive",
        source="/dev/disk/by-id/virtio-archive",
        mount_point=ARCHIVE,
        initialise="if_blank",
    )
    # The first device's policy has the same rule, so it goes while this one waits.
    agent1.check_now()
    agent1.until("agent1-archive", "closed", outcome="pending")
    agent1.until("agent1-data", "closed", outcome="denied")
    approved = module(
        "server",
        "key_request",
        **api_options,
        device="agent1-archive",
        state="approved",
        reason="an archive is read by hand",
        wait=30,
    )
    assert approved["changed"]
    agent1.until("agent1-archive", "mounted")
    assert agent1.status("agent1-data")["volume"] == "closed"
    agent1.run("userdel intruder")
    agent1.check_now()
    agent1.until("agent1-data", "mounted")


def test_in_memory_keys_are_only_where_dm_crypt_keeps_them(
    agent1: Guest, keys: Keys, volume_key: bytes, tmp_path: Path
) -> None:
    # A mounted volume is seen before the pass that opened it has ended; this waits for it.
    agent1.agent("check")
    dump = memory(agent1, tmp_path)
    assert found(dump, keys.of_devices["agent1-data"]) == {}
    # XTS makes two ciphers of the two halves, and an expanded AES key begins with the key itself.
    assert found(dump, volume_key) == {"first half": 1, "second half": 1}


def test_revoked(
    agent1: Guest, keys: Keys, volume_key: bytes, module, api_options, tmp_path: Path
) -> None:
    revoke = {**api_options, "device": "agent1-data", "reason": "stolen, it is said"}
    assert module("server", "key", **revoke, state="deactivated")["changed"]
    agent1.check_now()
    agent1.until("agent1-data", "closed", outcome="denied", code="revoked")
    assert "sc-agent1-data" not in agent1.mapped()
    assert not agent1.is_active("writer.service")
    dump = memory(agent1, tmp_path)
    assert found(dump, volume_key) == {}
    assert found(dump, keys.of_devices["agent1-data"]) == {}
    assert module("server", "key", **revoke, state="active")["changed"]
    agent1.check_now()
    agent1.until("agent1-data", "mounted")
    eventually("the writer runs", lambda: agent1.is_active("writer.service"))


def test_no_key_in_what_any_process_shows(agent1: Guest, keys: Keys, volume_key: bytes) -> None:
    # A process may end while it is looked at.
    look = "cat /proc/keys /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null"
    shown = agent1.run(look, check=False)
    assert "securecloud-agent" in shown
    journal = agent1.run("journalctl --no-pager")
    for key in (keys.of_devices["agent1-data"], volume_key):
        for needle in list(spellings(key).values())[1:]:
            assert needle.decode() not in shown + journal
