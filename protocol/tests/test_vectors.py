"""Every vector in `protocol/vectors`, run from the files alone."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from protocol_world import refusal
from securecloud_protocol import messages as wire
from securecloud_protocol import suite, transcript
from securecloud_protocol.agent import Enrolment, Exchange, read_server_identity
from securecloud_protocol.encoding import b64u_decode, b64u_encode, digest, length_prefixed
from securecloud_protocol.envelope import decode_request
from securecloud_protocol.server import Responder, ServerKeys
from securecloud_protocol.token import parse_token

DIRECTORY = Path(__file__).parent.parent / "vectors"


def load(name: str) -> list[dict[str, Any]]:
    document = json.loads((DIRECTORY / f"{name}.json").read_text(encoding="utf-8"))
    assert document["protocol"] == 1
    vectors: list[dict[str, Any]] = document["vectors"]
    return vectors


EXCHANGES = {vector["name"]: vector for vector in load("exchange")}
HOSTILE = load("hostile")
PRIMITIVES = load("primitives")


def drawn(*octets: str) -> suite.RandomSource:
    """Return a random source that gives just these, in this order."""
    remaining = [b64u_decode(text) for text in octets]

    def draw(count: int) -> bytes:
        assert len(remaining[0]) == count
        return remaining.pop(0)

    return draw


class Recorded:
    """Both sides of a recorded exchange, from its keys and random octets."""

    def __init__(self, vector: dict[str, Any]) -> None:
        self.vector = vector
        self.messages = {kind: text.encode() for kind, text in vector["messages"].items()}
        server, agent = vector["server"], vector["agent"]
        self.keys = ServerKeys(
            server["server_id"],
            b64u_decode(server["kem_seed"]),
            b64u_decode(server["signing_seed"]),
            b64u_decode(server["token_key"]),
        )
        self.certificates = [b64u_decode(text) for text in server["certificates"]]
        self.responder = Responder(self.keys, self.certificates)
        self.key = Ed25519PrivateKey.from_private_bytes(b64u_decode(agent["identity_seed"]))
        self.token = parse_token(agent["enrolment_token"])
        self.certificate = b64u_decode(agent["certificate_seen"])

    def lookup(self, agent_id: str) -> bytes | None:
        known = agent_id == self.vector["agent"]["agent_id"]
        return self.key.public_key().public_bytes_raw() if known else None

    def payload(self, kind: str) -> bytes:
        return decode_request(self.messages[kind], kind).payload

    def agent_before(self, kind: str) -> Exchange:
        """Return the agent as it was before the reply of `kind`.

        HPKE draws its own random octets, so that the Hello of the record takes the place of the
        one made here.
        """
        random, expected = self.vector["random"]["agent"], self.vector["expected"]
        names = ("secret", "reply_key_seed", "hello_nonce", "evidence_nonce")
        exchange = Exchange(
            self.responder.identity,
            self.vector["agent"]["agent_id"],
            self.key,
            drawn(*(random[name] for name in names)),
        )
        hello = wire.HELLO.decode(expected["hello"])
        exchange.hello(hello.devices, hello.boot_id, hello.time, hello.seen_audit_size)
        exchange._hello_digest = transcript.hello_digest(self.payload("hello"))
        if kind != "challenge":
            exchange.challenge(self.messages["challenge"], self.certificate)
            body = wire.EVIDENCE_BODY.decode(expected["evidence_body"])
            assert exchange.evidence(body) == self.messages["evidence"]
        if kind in ("receipt", "kept", "wake"):
            exchange.release(self.messages["release"])
            results = wire.decode(wire.ACK, self.payload("ack")).results
            assert exchange.ack(results) == self.messages["ack"]
        if kind == "kept":
            exchange.receipt(self.messages["receipt"])
        return exchange

    def enrolment(self) -> Enrolment:
        random = drawn(self.vector["random"]["agent"]["enrol_nonce"])
        enrolment = Enrolment(self.responder.identity, self.key, random)
        enrolment.request(self.vector["agent"]["agent_name"], self.token)
        payload = self.payload("enrol")
        enrolment._sent = payload, wire.decode(wire.ENROL, payload)
        return enrolment

    def deliver(self, endpoint: str, data: bytes, now: int) -> Any:
        responder = self.responder
        endpoints: dict[str, Callable[[], object]] = {
            "server": lambda: read_server_identity(data, self.token.fingerprint),
            "enrol": lambda: responder.open_enrol(data),
            "enrolled": lambda: self.enrolment().confirm(data),
            "hello": lambda: responder.open_hello(data, self.lookup),
            "challenge": lambda: self.agent_before("challenge").challenge(data, self.certificate),
            "evidence": lambda: responder.open_evidence(data, self.lookup, now),
            "release": lambda: self.agent_before("release").release(data),
            "ack": lambda: responder.open_ack(data, now),
            "receipt": lambda: self.agent_before("receipt").receipt(data),
            "copy": lambda: responder.open_copy(data, now),
            "kept": lambda: self.agent_before("kept").kept(data),
            "wait": lambda: responder.open_wait(data, now),
            "wake": lambda: self.agent_before("wake").waiting.wake(data),
        }
        return endpoints[endpoint]()


RECORDED = {name: Recorded(vector) for name, vector in EXCHANGES.items()}


@pytest.mark.parametrize("name", EXCHANGES)
def test_recorded_enrolment(name: str) -> None:
    recorded, now = RECORDED[name], EXCHANGES[name]["now"]
    assert recorded.responder.identity_message() == recorded.messages["server"]
    assert recorded.responder.fingerprint == EXCHANGES[name]["expected"]["fingerprint"]
    identity = recorded.deliver("server", recorded.messages["server"], now)
    assert identity == recorded.responder.identity
    opened = recorded.deliver("enrol", recorded.messages["enrol"], now)
    assert opened.secret == recorded.token.secret
    agent_id = EXCHANGES[name]["agent"]["agent_id"]
    assert recorded.responder.enrolled(opened, agent_id) == recorded.messages["enrolled"]
    enrolled = recorded.deliver("enrolled", recorded.messages["enrolled"], now)
    assert enrolled.agent_id == agent_id


@pytest.mark.parametrize("name", EXCHANGES)
def test_recorded_exchange_as_the_server_sees_it(name: str) -> None:
    recorded, vector = RECORDED[name], EXCHANGES[name]
    expected, random, now = vector["expected"], vector["random"], vector["now"]
    hello = recorded.deliver("hello", recorded.messages["hello"], now)
    assert wire.HELLO.encode(hello.hello) == expected["hello"]
    assert b64u_encode(hello.secret) == random["agent"]["secret"]
    assert b64u_encode(hello.digest) == expected["hello_digest"]
    core = wire.CHALLENGE_CORE.decode(expected["challenge_core"])
    names = ("session_id", "challenge_nonce", "challenge_token_salt")
    source = drawn(*(random["server"][each] for each in names))
    challenge = Responder(recorded.keys, recorded.certificates, source).challenge(
        hello,
        core.devices,
        core.facts,
        core.policy_digest,
        now,
        expected["lifetime"],
        expected["last_check"],
    )
    assert challenge == recorded.messages["challenge"]
    evidence = recorded.deliver("evidence", recorded.messages["evidence"], now)
    assert evidence.core == core
    assert wire.EVIDENCE_BODY.encode(evidence.body) == expected["evidence_body"]
    assert b64u_encode(evidence.transcript) == expected["transcript"]
    ack = recorded.deliver("ack", recorded.messages["ack"], now)
    assert ack.ack.session_id == evidence.session_id
    assert wire.ACK.encode(ack.ack)["results"] == expected["ack_results"]
    copies = tuple(expected["copies"])
    assert recorded.responder.receipt(ack, copies) == recorded.messages["receipt"]
    if copies:
        copy = recorded.deliver("copy", recorded.messages["copy"], now)
        assert (copy.agent_id, copy.copy.device) == (ack.agent_id, copies[-1])
        assert recorded.responder.kept(copy) == recorded.messages["kept"]
    wait = recorded.deliver("wait", recorded.messages["wait"], now)
    assert (wait.agent_id, wait.last_check) == (ack.agent_id, expected["last_check"])
    woken = recorded.responder.wake(wait, check=expected["check"])
    assert woken == recorded.messages["wake"]


@pytest.mark.parametrize("name", EXCHANGES)
def test_recorded_exchange_as_the_agent_sees_it(name: str) -> None:
    recorded, expected = RECORDED[name], EXCHANGES[name]["expected"]
    challenged = recorded.agent_before("challenge")
    core = challenged.challenge(recorded.messages["challenge"], recorded.certificate)
    assert wire.CHALLENGE_CORE.encode(core) == expected["challenge_core"]
    assert b64u_encode(challenged.transcript) == expected["transcript"]
    body = recorded.agent_before("release").release(recorded.messages["release"])
    assert wire.RELEASE_BODY.encode(body) == expected["release_body"]
    last = recorded.agent_before("receipt")
    assert {
        "evidence_encryption": b64u_encode(last._keys.evidence),
        "evidence_mac": b64u_encode(last._keys.evidence_mac),
        "ack_mac": b64u_encode(last._ack_key),
        "receipt_mac": b64u_encode(last._receipt_key),
        "copy_mac": b64u_encode(last._copy_key),
        "kept_mac": b64u_encode(last._kept_key),
        "wait_mac": b64u_encode(last.waiting.wait_key),
        "wake_mac": b64u_encode(last.waiting.wake_key),
    } == expected["keys"]
    copies = last.receipt(recorded.messages["receipt"])
    assert list(copies) == expected["copies"]
    if copies:
        header = wire.decode(wire.COPY, recorded.payload("copy")).header
        assert last.copy(copies[-1], header) == recorded.messages["copy"]
        last.kept(recorded.messages["kept"])
    assert last.waiting.wait() == recorded.messages["wait"]
    assert last.waiting.wake(recorded.messages["wake"]) == expected["check"]


@pytest.mark.parametrize("vector", HOSTILE, ids=lambda vector: vector["name"])
def test_hostile_message(vector: dict[str, Any]) -> None:
    recorded = RECORDED[vector["exchange"]]
    if "repeat" in vector:
        text, count = vector["repeat"]
        data = text.encode() * count
    elif "message_of" in vector:
        data = recorded.messages[vector["message_of"]]
    elif "octets" in vector:
        data = b64u_decode(vector["octets"])
    else:
        data = vector["message"].encode()
    now = vector.get("now", recorded.vector["now"])
    verdict = refusal(lambda: recorded.deliver(vector["endpoint"], data, now))
    assert verdict.value == vector["failure"]


def _compute(vector: dict[str, Any]) -> bytes:
    def octets(name: str) -> bytes:
        return b64u_decode(vector[name])

    parts = [b64u_decode(part) for part in vector.get("parts", ())]
    operations: dict[str, Callable[[], bytes]] = {
        "length_prefixed": lambda: length_prefixed(parts),
        "digest": lambda: digest(suite.label(vector["label"]), *parts),
        "derive": lambda: suite.derive(octets("secret"), octets("salt"), vector["purpose"]),
        "mac": lambda: suite.mac(octets("key"), vector["purpose"], *parts),
        "sign": lambda: suite.sign(
            Ed25519PrivateKey.from_private_bytes(octets("seed")), vector["purpose"], *parts
        ),
        "encrypt": lambda: suite.encrypt(
            octets("key"), octets("plaintext"), octets("associated"), drawn(vector["nonce"])
        ),
        "kem_open": lambda: suite.KemKey(octets("seed")).open(octets("sealed"), octets("info")),
        "audit_head_signature": lambda: suite.sign(
            Ed25519PrivateKey.from_private_bytes(octets("seed")),
            "audit head signature",
            *transcript.audit_head_parts(
                vector["server_id"],
                wire.AuditHead(vector["size"], octets("root"), vector["time"], b"", ()),
            ),
        ),
    }
    return operations[vector["operation"]]()


@pytest.mark.parametrize("vector", PRIMITIVES, ids=lambda vector: vector["operation"])
def test_building_block(vector: dict[str, Any]) -> None:
    assert b64u_encode(_compute(vector)) == vector["result"]


def test_the_vectors_cover_every_endpoint_and_every_failure_of_a_message() -> None:
    endpoints = set(EXCHANGES["a key and a check are granted"]["messages"])
    assert {vector["endpoint"] for vector in HOSTILE} == endpoints
    assert {vector["failure"] for vector in HOSTILE} == {
        "malformed",
        "too_large",
        "unsupported_version",
        "unexpected_type",
        "not_authenticated",
        "expired",
    }
    names = [vector["name"] for vector in HOSTILE]
    assert len(set(names)) == len(names)
