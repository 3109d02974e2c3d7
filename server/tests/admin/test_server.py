"""`/server`, and the two documents of the audit log's head."""

import hashlib
from typing import Any

import securecloud_server
from securecloud_protocol.encoding import b64u_decode
from securecloud_server.domain.errors import Unavailable
from securecloud_server.storage.migrations import LATEST

from server.tests.admin.api import Caller


def test_the_server_says_who_it_is(server: Any, admin: Caller) -> None:
    assert admin.get("/server") == {
        "version": securecloud_server.__version__,
        "server_id": server.application.server_id,
        "fingerprint": server.application.responder.fingerprint,
        "time": "2027-01-15T08:00:00Z",
        "keystore": {"type": "local", "state": "ready"},
        "storage": {"type": "sqlite", "schema_version": LATEST},
    }


def test_a_keystore_that_cannot_be_used_is_named(
    server: Any, admin: Caller, monkeypatch: Any
) -> None:
    def away(_self: Any) -> None:
        raise Unavailable("the keystore does not answer")

    monkeypatch.setattr(type(server.application.keystores.active), "check", away)
    assert admin.get("/server")["keystore"]["state"] == "the keystore does not answer"


def test_the_tree_head_is_signed_by_the_key_that_agents_pin(server: Any, admin: Caller) -> None:
    admin.put("/policies/web", {})
    head = admin.get("/audit-head")
    assert sorted(head) == ["at", "key_id", "root", "signature", "size"]
    assert head["size"] == len(admin.items("/audit-events"))
    assert head["at"] == "2027-01-15T08:00:00Z"
    assert head["key_id"] == server.application.responder.fingerprint
    signed = server.application.responder.sign_audit_head(
        head["size"], bytes.fromhex(head["root"]), int(server.clock())
    )
    assert b64u_decode(head["signature"]) == signed


def test_the_root_is_the_tree_hash_of_the_events(server: Any, admin: Caller) -> None:
    bodies = server.read(lambda tx: [e.body for e in tx.audit.page(None, 100, {})])
    leaves = [hashlib.sha256(b"\x00" + body).digest() for body in bodies]
    assert admin.get("/audit-head")["root"] == _root(leaves).hex()


def _root(leaves: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1."""
    if len(leaves) == 1:
        return leaves[0]
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\x01" + _root(leaves[:split]) + _root(leaves[split:])).digest()
