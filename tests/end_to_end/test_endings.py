"""The endings of a key request, with the real server, the real agent and the real cryptsetup."""

from collections.abc import Callable

from tests.end_to_end.conftest import APPROVING
from tests.support.live import AgentMachine, LiveServer

NewAgent = Callable[..., AgentMachine]


def push(server: LiveServer, name: str, **changes: object) -> None:
    server.ok("PUT", f"/policies/{name}", {**APPROVING, **changes})


def test_a_machine_that_meets_its_policy_gets_its_key_and_makes_its_volume(
    new_agent: NewAgent, server: LiveServer
) -> None:
    machine = new_agent("granted")
    code, device = machine.unlock()
    assert (code, device["outcome"]) == (0, "granted"), device
    known = server.ok("GET", "/devices/granted-data")
    assert known["key"] == {"state": "active", "version": 1}
    assert known["luks_uuid"]
    (request,) = server.ok("GET", "/key-requests?device=granted-data")["items"]
    assert request["state"] == "delivered"
    assert [step["to"] for step in request["transitions"]] == ["approved", "delivered"]


def test_the_same_volume_opens_again_with_the_same_key(new_agent: NewAgent) -> None:
    machine = new_agent("again")
    machine.unlock()
    before = machine.volume.read_bytes()[: 1 << 20]
    machine.cli("lock", "--json")
    code, device = machine.unlock()
    assert (code, device["outcome"]) == (0, "granted"), device
    assert machine.volume.read_bytes()[: 1 << 20] == before


def test_a_policy_that_forbids_what_is_true_denies_and_says_why(
    new_agent: NewAgent, server: LiveServer
) -> None:
    push(server, "forbidding", rules=[{"fact": "boot.boot_id", "operator": "equals", "value": "x"}])
    machine = new_agent("denied", "forbidding")
    code, device = machine.unlock()
    assert (code, device["outcome"], device["code"]) == (4, "denied", "policy")
    (request,) = server.ok("GET", "/key-requests?device=denied-data")["items"]
    (rule,) = request["rules"]
    assert rule["path"] == "rules[0]"
    assert not rule["passed"]
    assert rule["value"]


def test_a_manual_policy_waits_for_a_person_and_then_releases(
    new_agent: NewAgent, server: LiveServer
) -> None:
    push(server, "asking", on_match={"action": "manual"})
    machine = new_agent("pending", "asking")
    code, device = machine.unlock()
    assert (code, device["outcome"], device["code"]) == (3, "pending", "approval_required")
    (request,) = server.ok("GET", "/key-requests?device=pending-data&state=pending")["items"]
    server.ok("POST", f"/key-requests/{request['id']}:approve", {"reason": "change 4711"})
    code, device = machine.unlock()
    assert (code, device["outcome"]) == (0, "granted"), device


def test_a_person_who_denies_is_obeyed(new_agent: NewAgent, server: LiveServer) -> None:
    push(server, "asking", on_match={"action": "manual"})
    machine = new_agent("refused", "asking")
    machine.unlock()
    (request,) = server.ok("GET", "/key-requests?device=refused-data&state=pending")["items"]
    server.ok("POST", f"/key-requests/{request['id']}:deny", {"reason": "not this one"})
    code, device = machine.unlock()
    assert (code, device["outcome"], device["code"]) == (4, "denied", "rejected")


def test_a_revoked_key_is_not_released_until_it_is_restored(
    new_agent: NewAgent, server: LiveServer
) -> None:
    machine = new_agent("revoked")
    machine.unlock()
    server.ok("POST", "/keys/revoked-data:revoke", {"reason": "lost laptop"})
    code, device = machine.unlock()
    assert (code, device["outcome"], device["code"]) == (4, "denied", "revoked")
    server.ok("POST", "/keys/revoked-data:restore", {"reason": "found again"})
    code, device = machine.unlock()
    assert (code, device["outcome"]) == (0, "granted"), device


def test_a_restart_of_the_server_loses_nothing(new_agent: NewAgent, server: LiveServer) -> None:
    machine = new_agent("restart")
    machine.unlock()
    server.kill()
    assert server.falls_silent(), "a worker outlived the process that was killed"
    server.start()
    code, device = machine.unlock()
    assert (code, device["outcome"]) == (0, "granted"), device


def test_the_audit_log_verifies_after_all_this(server: LiveServer) -> None:
    done = server.cli("audit", "verify", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
