"""An agent that shares no code with ours gets through, and is not let off anything."""

import ast
from pathlib import Path

import independent_agent
import pytest
from independent_agent import IndependentAgent, RefusedError
from protocol_world import BOOT_ID, CERTIFICATE, LIFETIME, NOW, World, audit_head, decisions
from securecloud_protocol import messages as wire
from securecloud_protocol.envelope import encode_error
from securecloud_protocol.errors import ErrorCode, ProtocolError
from securecloud_protocol.token import format_token

AGENT_ID = "a9e00000-0000-4000-8000-00000000cafe"


@pytest.fixture
def agent(world: World) -> IndependentAgent:
    """An independent agent that has enrolled."""
    found = IndependentAgent(format_token(world.token), "independent", BOOT_ID)
    found.pin(world.responder.identity_message())
    opened = world.responder.open_enrol(found.enrol())
    assert opened.secret == world.token.secret
    found.enrolled(world.responder.enrolled(opened, AGENT_ID))
    return found


def _challenge(world: World, agent: IndependentAgent) -> bytes:
    public = agent.identity.public_key().public_bytes_raw()
    hello = world.responder.open_hello(agent.hello([], NOW), {AGENT_ID: public}.get)
    facts = (wire.FactRequest("host_name"),)
    return world.responder.challenge(hello, ("data",), facts, bytes(32), NOW, LIFETIME)


def test_it_imports_nothing_of_ours() -> None:
    tree = ast.parse(Path(independent_agent.__file__).read_text(encoding="utf-8"))
    imported = {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in [getattr(node, "module", None), *(alias.name for alias in node.names)]
    }
    assert not [name for name in imported if name and "securecloud" in name]


def test_it_gets_its_key_and_delivers_its_ack(world: World, agent: IndependentAgent) -> None:
    core = agent.challenge(_challenge(world, agent), CERTIFICATE)
    assert core["facts"] == [{"name": "host_name", "args": []}]
    public = agent.identity.public_key().public_bytes_raw()
    message = agent.evidence({"host_name": "zoë\u2028\x1f"})
    opened = world.responder.open_evidence(message, {AGENT_ID: public}.get, NOW)
    assert opened.body.facts["host_name"].value == "zoë\u2028\x1f"
    head = audit_head(world.responder)
    release = world.responder.release(opened, decisions()[:1], 300, head, NOW)
    granted = agent.release(release)["decisions"][0]
    assert independent_agent.unb64(granted["key"]) == bytes(range(64))
    result = {
        "device": "data",
        "key_version": granted["key_version"],
        "result": "mounted",
        "luks_uuid": granted["volume"]["luks_uuid"],
        "initialised": False,
        "detail": "",
        "header": None,
    }
    ack = world.responder.open_ack(agent.ack([result]), NOW)
    assert ack.ack.results[0].result == "mounted"
    assert agent.receipt(world.responder.receipt(ack, ("data",))) == ["data"]
    copy = world.responder.open_copy(agent.copy("data", b"LUKS"), NOW)
    assert (copy.agent_id, copy.copy.header) == (AGENT_ID, b"LUKS")
    agent.kept(world.responder.kept(copy))
    wait = world.responder.open_wait(agent.wait(), NOW)
    assert wait.agent_id == AGENT_ID
    assert agent.wake(world.responder.wake(wait, check=True))


def test_another_certificate_stops_it_too(world: World, agent: IndependentAgent) -> None:
    agent.challenge(_challenge(world, agent), b"in the middle")
    public = agent.identity.public_key().public_bytes_raw()
    with pytest.raises(ProtocolError) as caught:
        world.responder.open_evidence(agent.evidence({}), {AGENT_ID: public}.get, NOW)
    assert caught.value.code is ErrorCode.NOT_AUTHENTICATED


def test_it_understands_errors(agent: IndependentAgent) -> None:
    agent.hello([], NOW)
    with pytest.raises(RefusedError, match="stale"):
        agent.challenge(encode_error(ErrorCode.STALE), CERTIFICATE)
