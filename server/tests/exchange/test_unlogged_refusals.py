"""Who is known is refused only when that is in the audit log; until then, nothing is said."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securecloud_protocol import agent as protocol
from securecloud_protocol.envelope import encode_error
from securecloud_protocol.errors import ErrorCode
from securecloud_server.domain.errors import Unavailable
from securecloud_server.storage.audit import SqlAuditLog


def refusal(server: Any, step: str, message: bytes, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what is answered while nothing can be logged, and afterwards."""

    def full(*_: object) -> int:
        raise Unavailable("the disk that holds the database is full")

    with monkeypatch.context() as patch:
        patch.setattr(SqlAuditLog, "append", full)
        bodies = [server.post(step, message)]
    bodies.append(server.post(step, message))
    codes = {encode_error(code): code.value for code in ErrorCode}
    return [codes[body] for body in bodies]


def test_a_message_that_is_played_back(
    server: Any, machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialogue = machine.begin()
    dialogue.challenge()
    dialogue.release()
    answers = refusal(server, "evidence", dialogue.sent, monkeypatch)
    assert answers == ["unavailable", "replayed"]
    assert server.actions().count("exchange.refused") == 1


def test_an_enrolment_with_a_token_that_was_used(
    server: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    token = server.token("web2")
    for used in (False, True):
        enrolment = protocol.Enrolment(server.identity(), Ed25519PrivateKey.generate())
        message = enrolment.request("web2", token)
        if not used:
            enrolment.confirm(server.post("enrol", message))
    answers = refusal(server, "enrol", message, monkeypatch)
    assert answers == ["unavailable", "enrolment_refused"]
    assert server.actions().count("agent.enrolment_refused") == 1


def test_a_stranger(server: Any, machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.key = Ed25519PrivateKey.generate()
    answers = refusal(server, "hello", machine.begin().hello, monkeypatch)
    assert answers == ["unavailable", "not_authenticated"]
    assert server.actions().count("exchange.unauthenticated") == 1
