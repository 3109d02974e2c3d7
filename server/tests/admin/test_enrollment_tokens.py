"""`/enrollment-tokens`: one-use rights to enrol one agent name."""

from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securecloud_protocol import agent as protocol
from securecloud_protocol.token import parse_token

from server.tests.admin.api import Caller

PATH = "/enrollment-tokens"


def enrol(server: Any, name: str, token: str) -> Any:
    """Enrol a machine as its agent does; ProtocolError when the server refuses."""
    enrolment = protocol.Enrolment(server.identity(), Ed25519PrivateKey.generate())
    return enrolment.confirm(server.post("enrol", enrolment.request(name, parse_token(token))))


def test_a_token_enrols_its_agent_once(server: Any, admin: Caller) -> None:
    answer = admin.call("POST", PATH, {"agent_name": "web1"})
    assert answer.status_code == 201
    created = answer.json
    text = created.pop("token")
    assert text.split(".")[:2] == ["sce", created["id"]]
    assert text.endswith(server.application.responder.fingerprint)
    assert created == {
        "id": created["id"],
        "agent_name": "web1",
        "state": "unused",
        "expires_at": "2027-01-15T09:00:00Z",
    }
    assert admin.get(f"{PATH}/{created['id']}") == created
    enrol(server, "web1", text)
    assert admin.get(f"{PATH}/{created['id']}")["state"] == "used"
    assert admin.get("/agents/web1")["state"] == "active"
    admin.refused("conflict", "POST", PATH, {"agent_name": "web1"})
    admin.delete("/agents/web1")
    enrol(server, "web1", admin.post(PATH, {"agent_name": "web1"})["token"])


def test_a_token_expires(admin: Caller, clock: Any) -> None:
    token = admin.post(PATH, {"agent_name": "web1", "expires_in": 60})
    assert token["expires_at"] == "2027-01-15T08:01:00Z"
    clock.forward(60)
    assert admin.get(f"{PATH}/{token['id']}")["state"] == "expired"


def test_a_token_is_revoked_once(admin: Caller) -> None:
    token = admin.post(PATH, {"agent_name": "web1"})
    admin.delete(f"{PATH}/{token['id']}")
    assert admin.get(f"{PATH}/{token['id']}")["state"] == "revoked"
    before = admin.actions()
    admin.delete(f"{PATH}/{token['id']}")
    assert admin.actions() == before
    assert before[-1] == "enrollment_token.revoked"


def test_tokens_are_filtered_by_agent(admin: Caller) -> None:
    wanted = admin.post(PATH, {"agent_name": "web1"})["id"]
    admin.post(PATH, {"agent_name": "web2"})
    assert [token["id"] for token in admin.items(f"{PATH}?agent_name=web1")] == [wanted]


def test_unknown_tokens_are_not_found(admin: Caller) -> None:
    admin.refused("not_found", "GET", f"{PATH}/none")
    admin.refused("not_found", "DELETE", f"{PATH}/none")
