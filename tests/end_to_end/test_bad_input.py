"""What is wrong is said plainly: by the API, by both commands, and nothing half-done is left."""

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from securecloud_agent.run import locate

from demo.ca import ensure_certificates
from tests.support.live import AgentMachine, LiveServer, Reply, running_server

NewAgent = Callable[..., AgentMachine]


def fields(reply: Reply) -> dict[str, str]:
    assert reply.headers["content-type"].startswith("application/problem+json")
    return {error["field"]: error["message"] for error in reply.body["errors"]}


BAD_RULES = {
    "unknown fact": ({"fact": "hostname", "operator": "equals", "value": "x"}, "fact", "host_name"),
    "operator of another type": (
        {"fact": "host_name", "operator": "at_least", "value": 3},
        "operator",
        "at_least",
    ),
    "value of another type": (
        {"fact": "patch_level.days_since_update", "operator": "at_most", "value": "many"},
        "value",
        "integer",
    ),
    "runaway pattern": (
        {"fact": "host_name", "operator": "matches", "value": "(a+)+$"},
        "value",
        "repe",
    ),
    "back reference": (
        {"fact": "host_name", "operator": "matches", "value": r"(a)\1"},
        "value",
        "",
    ),
    "bad network": (
        {"fact": "request.source_ip", "operator": "in_networks", "value": ["10.0.0.0/99"]},
        "value",
        "",
    ),
    "bad expression": ({"jmespath": "length(users"}, "jmespath", ""),
}


@pytest.mark.parametrize("case", BAD_RULES)
def test_a_wrong_policy_is_refused_by_field_and_leaves_nothing(
    server: LiveServer, case: str
) -> None:
    rule, field, hint = BAD_RULES[case]
    body = {"rules": [rule], "on_match": {"action": "approve"}, "on_fail": {"action": "deny"}}
    reply = server.request("PUT", "/api/v1/policies/wrong", body)
    assert reply.status == 422
    wrong = fields(reply)
    (name,) = [name for name in wrong if name.startswith("rules[0]")]
    assert field in name
    assert hint in json.dumps(reply.body["errors"])
    assert server.request("GET", "/api/v1/policies/wrong").status == 404


def test_every_wrong_field_is_named_at_once(server: LiveServer) -> None:
    body = {"rules": [{"fact": "nope", "operator": "equals", "value": 1}, {"all": 3}]}
    reply = server.request("PUT", "/api/v1/policies/wrong", body)
    assert len(fields(reply)) >= 2


def test_a_policy_that_approves_failing_machines_needs_force(server: LiveServer) -> None:
    body = {
        "rules": [{"fact": "host_name", "operator": "equals", "value": "x"}],
        "on_match": {"action": "approve"},
        "on_fail": {"action": "approve_after", "delay": 60},
    }
    reply = server.request("PUT", "/api/v1/policies/lenient", body)
    assert reply.status == 422
    assert "force" in json.dumps(reply.body)


def test_a_second_device_on_the_same_volume_is_refused(
    new_agent: NewAgent, server: LiveServer
) -> None:
    machine = new_agent("twice")
    volume = {"source": str(machine.volume), "mount_point": None, "initialise": "never"}
    body = {"agent": "twice", "volume": volume}
    reply = server.request("PUT", "/api/v1/devices/other-data", body)
    assert reply.status in {409, 422}
    assert "twice-data" in json.dumps(reply.body)


def test_a_device_of_another_agent_is_not_given_away(new_agent: NewAgent) -> None:
    new_agent("owner")
    thief = new_agent("thief")
    done = thief.cli("unlock", "owner-data", "--json")
    assert done.returncode not in {0, 3}
    assert "owner-data" in done.stdout + done.stderr


def test_an_enrolment_token_works_once(new_agent: NewAgent, server: LiveServer) -> None:
    first = new_agent("once")
    directory = first.directory.parent / "impostor"
    directory.mkdir()
    impostor = AgentMachine(directory, server, "once")
    impostor.configure()
    refused = server.request("POST", "/api/v1/enrollment-tokens", {"agent_name": "once"})
    assert refused.status == 409
    for token in ("sce.abc", "nonsense"):
        done = impostor.cli("enrol", "--token-file", "-", "--json", stdin=token)
        assert done.returncode == 1
        assert token not in done.stderr.replace("sce.<id>", "")


def test_a_revoked_enrolment_token_is_refused_and_the_identity_stays_unbound(
    server: LiveServer, tmp_path: Path
) -> None:
    machine = AgentMachine(tmp_path, server, "late")
    machine.configure()
    created = server.ok("POST", "/enrollment-tokens", {"agent_name": "late"})
    server.request("DELETE", f"/api/v1/enrollment-tokens/{created['id']}")
    done = machine.cli("enrol", "--token-file", "-", "--json", stdin=created["token"])
    assert done.returncode == 1
    assert "token" in done.stderr
    assert server.request("GET", "/api/v1/agents/late").status == 404


def test_an_agent_says_that_nobody_listens(server: LiveServer, tmp_path: Path) -> None:
    machine = AgentMachine(tmp_path, server, "lonely")
    machine.configure(servers=["https://127.0.0.1:9"])
    token = server.ok("POST", "/enrollment-tokens", {"agent_name": "lonely"})["token"]
    done = machine.cli("enrol", "--token-file", "-", stdin=token)
    assert done.returncode == 1
    assert "127.0.0.1:9" in done.stderr
    assert "refused" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_agent_says_that_the_ca_is_wrong(
    server: LiveServer, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other-ca")

    ensure_certificates(other)
    machine = AgentMachine(tmp_path, server, "misled")
    machine.configure(ca_file=str(other / "ca.pem"))
    token = server.ok("POST", "/enrollment-tokens", {"agent_name": "misled"})["token"]
    done = machine.cli("enrol", "--token-file", "-", stdin=token)
    assert done.returncode == 1
    assert str(other / "ca.pem") in done.stderr
    assert "Traceback" not in done.stderr


def test_an_agent_without_cryptsetup_names_the_package(new_agent: NewAgent, tmp_path: Path) -> None:
    machine = new_agent("bare")
    for program in ("blkid", "wipefs", "mkfs.ext4", "mount", "umount"):
        (tmp_path / program).symlink_to(locate(program))
    done = machine.cli("unlock", "--json", programs=str(tmp_path))
    assert done.returncode == 1
    assert "cryptsetup-bin" in done.stdout + done.stderr


def test_a_huge_body_is_refused_before_it_is_read(server: LiveServer) -> None:
    for path in ("/api/v1/policies/big", "/agent/v1/hello"):
        method = "PUT" if path.startswith("/api") else "POST"
        assert server.request(method, path, {"description": "x" * 300_000}).status == 413


@pytest.mark.parametrize(("octets", "status"), [(1_000_000, 400), (1_100_000, 413)])
def test_a_copy_of_a_header_may_be_longer(server: LiveServer, octets: int, status: int) -> None:
    reply = server.request("POST", "/agent/v1/copy", {"description": "x" * octets})
    assert reply.status == status


def test_strangers_learn_a_closed_code_and_nothing_else(server: LiveServer) -> None:
    reply = server.request("POST", "/agent/v1/hello", {"v": 1, "type": "hello"}, token=None)
    assert reply.status == 400
    assert reply.body == {"v": 1, "type": "error", "code": "malformed"}


def test_a_database_that_cannot_be_written_releases_no_key_and_says_so(tmp_path: Path) -> None:
    with running_server(tmp_path / "server") as live:
        machine = AgentMachine(tmp_path, live, "stuck")
        machine.configure()
        machine.enrol()
        machine.register("stuck-data")
        with sqlite3.connect(live.database, isolation_level=None) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            done = machine.cli("unlock", "--json")
            ready = live.request("GET", "/readyz", token=None)
            put = live.request("PUT", "/api/v1/device-groups/x", {"description": "x"})
            blocker.execute("ROLLBACK")
        assert done.returncode == 1
        assert ready.status == 503
        assert put.status == 503
        assert "lock" in put.body["detail"]
        assert live.request("GET", "/api/v1/device-groups/x").status == 404
