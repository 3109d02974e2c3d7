"""Who knocks and cannot be told is answered with a closed code, and is in the audit log."""

import json
import os
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securecloud_protocol import agent as protocol
from securecloud_protocol import messages as wire
from securecloud_protocol.encoding import b64u_encode
from securecloud_protocol.envelope import encode_error
from securecloud_protocol.errors import ErrorCode

NOT_AUTHENTICATED = encode_error(ErrorCode.NOT_AUTHENTICATED)


def refused(server: Any) -> list[tuple[str, str, str]]:
    return [
        (str(event.actor), event.action, event.object)
        for event in server.events()
        if event.outcome == "refused"
    ]


def retire(server: Any, name: str) -> None:
    server.database.write(
        lambda tx: tx.agents.replace(replace(tx.agents.get(name), state="retired"))
    )


@pytest.fixture
def impostor(machine: Any) -> Any:
    """Knows the agent's id, and has a key of its own."""
    return replace(machine, key=Ed25519PrivateKey.generate())


def test_a_wrong_signature(server: Any, impostor: Any) -> None:
    assert server.post("hello", impostor.begin().hello) == NOT_AUTHENTICATED
    assert refused(server) == [("anonymous:unknown", "exchange.unauthenticated", "hello")]
    assert server.events()[-1].actor.source == "127.0.0.1"


def test_an_agent_that_never_was(server: Any, impostor: Any) -> None:
    nobody = replace(impostor, agent_id="0198c5a0-0000-7000-8000-000000000000")
    assert server.post("hello", nobody.begin().hello) == NOT_AUTHENTICATED
    assert refused(server) == [("anonymous:unknown", "exchange.unauthenticated", "hello")]


def test_knocking_does_not_fill_the_log(server: Any, impostor: Any) -> None:
    for _ in range(5):
        server.post("hello", impostor.begin().hello)
    assert len(refused(server)) == 1
    server.clock.forward(60)
    server.post("hello", impostor.begin().hello)
    assert [event.details for event in server.events() if event.outcome == "refused"] == [
        {},
        {"similar_not_logged": 4},
    ]


def test_an_enrolment_token_is_guessed(server: Any) -> None:
    guess = replace(server.token("web2"), secret=os.urandom(32))
    enrolment = protocol.Enrolment(server.identity(), Ed25519PrivateKey.generate())
    answer = server.post("enrol", enrolment.request("web2", guess))
    assert answer == encode_error(ErrorCode.ENROLMENT_REFUSED)
    assert refused(server) == [("anonymous:unknown", "exchange.unauthenticated", "enrol")]
    assert guess.token_id in server.events()[-1].reason


def test_an_enrolment_that_nobody_signed(server: Any) -> None:
    enrolment = protocol.Enrolment(server.identity(), Ed25519PrivateKey.generate())
    envelope = json.loads(enrolment.request("web2", server.token("web2")))
    envelope["sig"] = b64u_encode(bytes(64))
    server.post("enrol", json.dumps(envelope).encode())
    assert refused(server) == [("anonymous:unknown", "exchange.unauthenticated", "enrol")]


def test_one_step_does_not_hide_another(server: Any, impostor: Any) -> None:
    server.post("hello", impostor.begin().hello)
    guess = replace(server.token("web2"), secret=os.urandom(32))
    enrolment = protocol.Enrolment(server.identity(), Ed25519PrivateKey.generate())
    server.post("enrol", enrolment.request("web2", guess))
    assert [target for _, _, target in refused(server)] == ["hello", "enrol"]


@pytest.mark.parametrize("step", ["hello", "evidence", "ack", "copy"])
def test_a_retired_agent_is_told_nothing_and_named_in_the_log(
    server: Any, machine: Any, step: str
) -> None:
    machine.header = wire.LuksHeader(bytes(32), bytes(32), changing=False)
    dialogue = machine.begin()
    message = dialogue.hello
    if step != "hello":
        dialogue.challenge()
        message = dialogue.evidence()
    if step in {"ack", "copy"}:
        dialogue.body = dialogue.exchange.release(server.post("evidence", message))
        message = dialogue.ack_message()
    if step == "copy":
        dialogue.exchange.receipt(server.post("ack", message))
        message = dialogue.exchange.copy("web1-data", b"a header")
    retire(server, "web1")
    for _ in range(3):
        assert server.post(step, message) == NOT_AUTHENTICATED
    assert refused(server) == [("agent:web1", "exchange.refused", "agent:web1")]
    assert server.events()[-1].reason == "the agent is retired"
