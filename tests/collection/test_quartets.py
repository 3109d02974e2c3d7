"""Each module four times: foreseen, done, done again, foreseen again."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pyrage
import pytest

from tests.collection.conftest import ROOT, Play
from tests.end_to_end.conftest import APPROVING
from tests.support.live import BIN, AgentMachine, LiveServer, eventually

MODULES = ROOT / "collections/ansible_collections/trend/securecloud/plugins/modules"
QUARTETS = Path(__file__).parent / "quartets"


def assert_quartet(results: list[dict[str, Any]], changes: bool = True) -> None:
    """Foreseen and done agree on what changes; the second time nothing does."""
    foreseen, done, again, foreseen_again = results
    assert foreseen["changed"] is done["changed"] is changes
    assert foreseen.get("diff") == done.get("diff")
    assert not again["changed"], again
    assert not foreseen_again["changed"], foreseen_again


def assert_foreseen(results: list[dict[str, Any]], key: str, *fields: str) -> None:
    """Check mode knew these fields of the object that the real run returned."""
    foreseen, done = results[0][key], results[1][key]
    assert [foreseen[field] for field in fields] == [done[field] for field in fields]


def test_every_module_has_a_quartet() -> None:
    text = "".join(path.read_text() for path in QUARTETS.glob("*.yml"))
    missing = [
        path.stem for path in MODULES.glob("*.py") if f"trend.securecloud.{path.stem}:" not in text
    ]
    assert missing == []


def test_policy(play: Play) -> None:
    results = play("quartets/policy.yml")
    for quartet in results.values():
        assert_quartet(quartet)
    fields = ("description", "rules", "on_match", "on_fail", "grace", "offline")
    changes = ("create", "change", "grace", "offline", "empty")
    for name in changes:
        assert_foreseen(results[name], "policy", *fields)
    versions = [results[name][1]["policy"]["version"] for name in changes]
    assert versions == [1, 2, 3, 4, 5]
    graces = [results[name][1]["policy"]["grace"]["period"] for name in changes]
    assert graces == [0, 0, 300, 300, 300]
    periods = [results[name][1]["policy"]["offline"]["period"] for name in changes]
    assert periods == [0, 0, 0, 3600, 0]
    assert results["offline"][1]["policy"]["offline"]["pcrs"] == [4, 7]
    assert results["remove"][1]["policy"] is None


def test_device_group(play: Play) -> None:
    results = play("quartets/device_group.yml")
    for quartet in results.values():
        assert_quartet(quartet)
    assert_foreseen(results["create"], "device_group", "description", "policy")
    assert results["change"][1]["device_group"]["policy"] is None


def test_device(play: Play, machine: AgentMachine) -> None:
    results = play("quartets/device.yml")
    (read,) = results.pop("iscsi_info")["devices"]
    for quartet in results.values():
        assert_quartet(quartet)
    for name in ("create", "change", "iscsi", "back", "move"):
        fields = ("agent", "group", "policy", "enabled", "volume")
        assert_foreseen(results[name], "device", *fields)
    assert results["create"][1]["device"]["key"]["state"] == "pre_active"
    assert results["change"][1]["device"]["volume"]["options"] == ["noatime"]
    target = {"portal": "10.0.0.5:3260", "target": "iqn.2026-01.org.example:two", "lun": 1}
    assert read["volume"] == {**results["change"][1]["device"]["volume"], "source": None,
                              "iscsi": target}  # fmt: skip
    assert results["back"][1]["device"]["volume"] == results["change"][1]["device"]["volume"]


def test_enrollment_token(play: Play, tmp_path: Path) -> None:
    results = play("quartets/enrollment_token.yml", directory=str(tmp_path))
    for quartet in results.values():
        assert_quartet(quartet)
    _, minted, kept, _ = results["create"]
    assert minted["id"] == kept["id"]
    assert "token" not in minted
    assert results["remove"][1]["revoked"] == [minted["id"]]
    assert list(tmp_path.iterdir()) == []


def test_agent(play: Play, tmp_path: Path) -> None:
    command = str(BIN / "securecloud-agent")
    results = play("quartets/agent.yml", directory=str(tmp_path), command=command)
    for quartet in results.values():
        assert_quartet(quartet)
    assert [each["enrolled"] for each in results["configure"]] == [False] * 4
    assert [each["enrolled"] for each in results["enrol"]] == [True] * 4
    assert results["enrol"][1]["agent_id"] == results["enrol"][2]["agent_id"]


def test_management_server(play: Play, tmp_path: Path) -> None:
    command = str(BIN / "securecloud-server")
    results = play("quartets/management_server.yml", directory=str(tmp_path), command=command)
    foreseen, done, again, foreseen_again = results["create"]
    assert (foreseen["changed"], done["changed"]) == (True, True)
    assert (again["changed"], foreseen_again["changed"]) == (False, False)
    assert done["fingerprint"] == again["fingerprint"]
    assert (tmp_path / "admin.token").stat().st_mode & 0o777 == 0o600
    assert_quartet(results["change"])


def test_keystore_server_backup_and_server_restore(play: Play, tmp_path: Path) -> None:
    """A server of its own, whose master key was just replaced in its settings."""
    server = LiveServer(tmp_path)
    server.prepare()
    first, server.master_key = server.master_key, tmp_path / "data/next.key"
    keystore = {"master_key": f"file:{server.master_key}", "previous_master_key": f"file:{first}"}
    settings = {**server.settings(), "keystore": keystore}
    for words, stdin in ((("configure",), json.dumps(settings)), (("init",), "")):
        done = server.cli(*words, "--json", stdin=stdin)
        assert done.returncode == 0, done.stderr
    (tmp_path / "elsewhere").mkdir()
    elsewhere = LiveServer(tmp_path / "elsewhere")
    done = elsewhere.cli("configure", "--json", stdin=json.dumps(elsewhere.settings()))
    assert done.returncode == 0, done.stderr
    key = pyrage.x25519.Identity.generate()
    results = play(
        "quartets/keystore.yml",
        directory=str(tmp_path),
        command=str(BIN / "securecloud-server"),
        config=str(server.config),
        recipient=str(key.to_public()),
        elsewhere=str(elsewhere.config),
        identity=str(key),
    )
    for quartet in results.values():
        assert_quartet(quartet)
    assert [each["renewed"] for each in results["rewrap"]] == [1, 1, 0, 0]
    assert [each.get("keys") for each in results["rewrap"]] == [None, 0, 0, None]
    assert results["restore"][1]["server_id"] == results["backup"][1]["server_id"]
    assert elsewhere.cli("doctor").returncode == 0
    assert b"securecloud.db" in pyrage.decrypt((tmp_path / "backup.age").read_bytes(), [key])


def test_key(play: Play, machine: AgentMachine) -> None:
    results = play("quartets/key.yml")
    for quartet in results.values():
        assert_quartet(quartet)
    states = [results[name][1]["key"]["state"] for name in ("revoke", "restore", "destroy")]
    assert states == ["deactivated", "active", "destroyed"]
    assert_foreseen(results["destroy"], "key", "device", "state")


def test_key_request(play: Play, machine: AgentMachine) -> None:
    code, device = machine.unlock("quartet-data")
    assert (code, device["outcome"]) == (3, "pending")
    results = play("quartets/key_request.yml")
    assert_quartet(results["approve"])
    assert_foreseen(results["approve"], "key_request", "id", "device", "state", "reason")


def test_key_request_by_id(play: Play, machine: AgentMachine) -> None:
    spare = str(machine.directory / "spare.luks")
    machine.register("quartet-denied", source=spare, mount_point=None)
    code, _ = machine.unlock("quartet-denied")
    assert code == 3
    (request,) = machine.server.ok("GET", "/key-requests?device=quartet-denied")["items"]
    results = play("quartets/key_request_deny.yml", request_id=request["id"])
    assert_quartet(results["deny"])


def test_encrypted_volume(play: Play, machine: AgentMachine) -> None:
    """On this kernel the outcome may be `verified`: where it has no device-mapper."""
    machine.server.ok("PUT", "/policies/quartet-approving", APPROVING)
    plain = machine.directory / "plain.img"
    machine.register("quartet-plain", "quartet-approving", source=str(plain), mount_point=None)
    os.truncate(plain, 128 * 1024 * 1024)
    subprocess.run(["mkfs.ext4", "-q", str(plain)], check=True)
    command = str(BIN / "securecloud-agent")
    results = play("quartets/encrypted_volume.yml", command=command, config=str(machine.config))
    foreseen, done, again, foreseen_again = results["encrypt"]
    assert foreseen["changed"] is done["changed"] is True
    assert again["changed"] is foreseen_again["changed"] is False
    assert done["finished"]
    assert (done["progress"]["phase"], done["progress"]["percent"]) == ("finished", 100.0)
    assert_quartet(results["read"], changes=False)
    (volume,) = results["read"][1]["volumes"]
    assert volume["volume"] == done["volume"]
    assert volume["finished"]


def test_integrity_check(play: Play, machine: AgentMachine) -> None:
    """On this kernel the outcome may be `verified`: where it has no device-mapper."""
    machine.server.ok("PUT", "/policies/quartet-approving", APPROVING)
    source = str(machine.directory / "checked.luks")
    machine.register("quartet-checked", "quartet-approving", source=source, mount_point=None)
    words = {"command": str(BIN / "securecloud-agent"), "config": str(machine.config)}
    results = play("quartets/integrity_check.yml", **words)
    assert_quartet(results["check"])
    foreseen, done, again, _ = results["check"]
    assert "compliant" not in foreseen
    assert done["compliant"] is again["compliant"] is True
    assert [each["code"] for each in (*done["devices"], *again["devices"])] == [
        "approved",
        "checked",
    ]
    # One that does not comply is no failure of the module.
    elsewhere = {"fact": "kernel.machine", "operator": "equals", "value": "none"}
    refusing = {**APPROVING, "rules": [elsewhere]}
    machine.server.ok("PUT", "/policies/quartet-approving", refusing)
    denied = play("quartets/integrity_check.yml", **words)["check"][1]
    assert (denied["compliant"], denied["devices"][0]["outcome"]) == (False, "denied")


def test_agent_check(play: Play, machine: AgentMachine, tmp_path: Path) -> None:
    """Nothing here connects to the machine, whose agent waits at the server."""
    server = machine.server
    server.ok("PUT", "/policies/quartet-turning", APPROVING)
    distant = AgentMachine(tmp_path, server, "distant")
    distant.configure()
    distant.enrol()
    distant.register("distant-data", "quartet-turning", mount_point=None)
    with distant.service():
        eventually(lambda: server.metric("securecloud_waiting_agents") == 1, 20)
        results = play("quartets/agent_check.yml", agent="distant")
        elsewhere = {"fact": "kernel.machine", "operator": "equals", "value": "none"}
        server.ok("PUT", "/policies/quartet-turning", {**APPROVING, "rules": [elsewhere]})
        turned = play("quartets/agent_check.yml", agent="distant")
    assert_quartet(results["check"], changes=False)
    foreseen, done, again, _ = results["check"]
    assert "compliant" not in foreseen
    assert foreseen["agents"][0]["check_requested_at"] is None
    assert done["compliant"] is again["compliant"] is True
    assert done["agents"][0]["devices"][0]["outcome"] == "granted"
    assert [each["changed"] for each in turned["check"]] == [False, True, False, False]
    assert turned["check"][1]["compliant"] is False
    assert turned["check"][1]["agents"][0]["devices"][0]["code"] == "policy"


def test_key_rotation(play: Play, machine: AgentMachine, tmp_path: Path) -> None:
    server = machine.server
    server.ok("PUT", "/policies/quartet-approving", APPROVING)
    distant = AgentMachine(tmp_path, server, "rotating")
    distant.configure()
    distant.enrol()
    distant.register("rotating-data", "quartet-approving", mount_point=None)
    with distant.service():
        eventually(lambda: server.ok("GET", "/keys/rotating-data")["state"] == "active", 20)
        results = play("quartets/key_rotation.yml", device="rotating-data")
    assert_quartet(results["replace"])
    foreseen, done, again, _ = results["replace"]
    assert foreseen["key"]["successor"] == {"version": 2}
    assert (done["key"]["version"], done["key"]["successor"]) == (2, None)
    assert done["diff"]["before"] == {"key": "version 1"}
    assert again["key"]["version"] == 2


def test_quarantine(play: Play, machine: AgentMachine) -> None:
    """A machine that is set back to an earlier state, as an honest restore does."""
    machine.server.ok("PUT", "/policies/quartet-approving", APPROVING)
    source = str(machine.directory / "restored.luks")
    machine.register("quartet-restored", "quartet-approving", source=source, mount_point=None)
    lineage = machine.directory / "state/lineage/quartet-restored.json"

    def released() -> str:
        machine.cli("lock", "quartet-restored")
        return str(machine.unlock("quartet-restored")[1]["code"])

    assert released() == "approved"
    backup = lineage.read_bytes()
    assert [released(), released()] == ["approved", "approved"]
    lineage.write_bytes(backup)
    assert released() == "quarantined"
    results = play("quartets/quarantine.yml", device="quartet-restored")
    assert_quartet(results["clear"])
    assert results["clear"][1]["device"]["quarantined"] is False
    assert released() == "approved"


def test_luks_header(play: Play, machine: AgentMachine) -> None:
    """A header that one of us changed with cryptsetup."""
    machine.server.ok("PUT", "/policies/quartet-approving", APPROVING)
    volume = machine.directory / "labelled.luks"
    machine.register("quartet-header", "quartet-approving", source=str(volume), mount_point=None)
    assert machine.unlock("quartet-header")[1]["outcome"] == "granted"
    machine.cli("lock", "quartet-header")
    subprocess.run(["cryptsetup", "--batch-mode", "config", "--label=data", volume], check=True)
    assert machine.unlock("quartet-header")[1]["code"] == "header_changed"
    refused = machine.server.ok("GET", "/devices/quartet-header")["header"]["refused"]
    results = play("quartets/luks_header.yml", device="quartet-header", digest=refused)
    assert_quartet(results["accept"])
    assert results["accept"][1]["device"]["header"]["digest"] == refused
    assert machine.unlock("quartet-header")[1]["outcome"] == "granted"


@pytest.mark.parametrize(
    ("module", "key", "names"),
    [
        ("policy_info", "policies", ["default"]),
        ("device_info", "devices", None),
        ("agent_info", "agents", ["quartet"]),
        ("key_request_info", "key_requests", None),
        ("audit_info", "events", None),
    ],
)
def test_info(
    play: Play, machine: AgentMachine, module: str, key: str, names: list[str] | None
) -> None:
    results = play(f"quartets/{module}.yml")
    assert_quartet(results["read"], changes=False)
    items = results["read"][1][key]
    assert names is None or [item["name"] for item in items] == names
    assert results["read"][0][key] == items


def test_audit_info(play: Play, machine: AgentMachine) -> None:
    results = play("quartets/audit_info.yml")
    first = results["read"][1]["events"][0]
    assert (first["action"], first["object"]) == ("policy.created", "policy:default")
    assert {event["object"] for event in results["read"][1]["events"]} == {"policy:default"}
    assert results["read"][1]["truncated"] is False
