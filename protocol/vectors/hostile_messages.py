"""Messages that must be refused, made from one exchange that went well."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from protocol_world import (
    LIFETIME,
    NOW,
    TYPES,
    Stage,
    World,
    audit_head,
    challenge,
    decisions,
    evidence_body,
)
from securecloud_protocol import messages as wire
from securecloud_protocol import suite
from securecloud_protocol.agent import Exchange
from securecloud_protocol.encoding import b64u_encode, json_encode
from securecloud_protocol.envelope import Envelope, decode_request, encode, encode_error, longest
from securecloud_protocol.errors import ErrorCode
from securecloud_protocol.server import ACK_LIFETIME, WAIT_LIFETIME
from securecloud_protocol.transcript import hello_info

Case = tuple[str, dict[str, Any]]
REQUESTS = ("enrol", "hello", "evidence", "ack", "copy", "wait")
IN_FULL = ("hello", "receipt")
BRIEFLY = ("version 2", "an unknown member", "no seal", "a member twice", "data behind it")
"""All types have one envelope, so that most ways to break it are recorded for two of them only."""


def _case(name: str, endpoint: str, message: bytes, code: ErrorCode) -> Case:
    try:
        body = {"message": message.decode()}
    except UnicodeDecodeError:
        body = {"octets": b64u_encode(message)}
    return name, {"endpoint": endpoint, **body, "failure": code.value}


def cases(stage: Stage) -> Iterator[Case]:
    """Yield every hostile message."""
    for kind in TYPES:
        yield from _frames(stage, kind)
        yield from _types(kind)
        yield from _seals(stage, kind)
        if kind != "release":
            yield from _documents(stage, kind)
    yield from _inner_documents(stage)
    yield from _agents(stage)
    yield from _mixed(stage)
    yield from _times()
    yield from _claims(stage)
    yield from _releases(stage)
    yield from _acks(stage)
    yield from _copies(stage)
    yield from _waits(stage)


def _flipped(octets: bytes, position: int = -1) -> bytes:
    changed = bytearray(octets)
    changed[position] ^= 1
    return bytes(changed)


def _frames(stage: Stage, kind: str) -> Iterator[Case]:
    message = stage.messages[kind]
    frame = json.loads(message)
    seal = "mac" if "mac" in frame else "sig"
    bad, version = ErrorCode.MALFORMED, ErrorCode.UNSUPPORTED_VERSION
    changes: list[tuple[str, Any, ErrorCode]] = [
        ("version 2", frame | {"v": 2}, version),
        ("version as text", frame | {"v": "1"}, bad),
        ("version true", frame | {"v": True}, bad),
        ("no version", {n: v for n, v in frame.items() if n != "v"}, bad),
        ("an unknown type", frame | {"type": "greeting"}, bad),
        ("an unknown member", frame | {"x": 1}, bad),
        ("no seal", {n: v for n, v in frame.items() if n != seal}, bad),
        ("no payload", {n: v for n, v in frame.items() if n != "payload"}, bad),
        ("payload that is an object", frame | {"payload": {}}, bad),
        ("payload with padding", frame | {"payload": frame["payload"] + "="}, bad),
        ("payload with a line end", frame | {"payload": frame["payload"] + "\n"}, bad),
        ("a short seal", frame | {seal: frame[seal][:-2]}, bad),
        ("a seal with unused bits set", frame | {seal: frame[seal][:-1] + "_"}, bad),
        ("a list", [frame], bad),
    ]
    for name, changed, code in changes:
        if kind in IN_FULL or name in BRIEFLY:
            yield _case(f"{kind}: {name}", kind, json_encode(changed), code)
    twice = message[:-1] + b',"type":"' + kind.encode() + b'"}'
    for name, octets in (
        ("a member twice", twice),
        ("data behind it", message + b"{}"),
        ("a line end behind it", message + b"\n"),
        ("a byte order mark", b"\xef\xbb\xbf" + message),
        ("not UTF-8", message.replace(b'"type"', b'"typ\xff"')),
        ("cut short", message[:-1]),
        ("nothing", b""),
        ("NaN", message.replace(b'"v":1', b'"v":NaN')),
        ("a fraction", message.replace(b'"v":1', b'"v":1.0')),
        ("a lone surrogate", message.replace(b'"type"', b'"\\ud800"')),
    ):
        if kind in IN_FULL or name in BRIEFLY:
            yield _case(f"{kind}: {name}", kind, octets, bad)
    yield (
        f"{kind}: too large",
        {"endpoint": kind, "repeat": [" ", longest(kind) + 1], "failure": "too_large"},
    )
    yield f"{kind}: very deep", {"endpoint": kind, "repeat": ["[", 100_000], "failure": "malformed"}
    huge = {"endpoint": kind, "repeat": ["9", 200_000], "failure": "malformed"}
    yield f"{kind}: a very long integer", huge


def _types(kind: str) -> Iterator[Case]:
    for other in TYPES:
        if other != kind:
            case = {"endpoint": kind, "message_of": other, "failure": "unexpected_type"}
            yield f"{kind}: {other} instead", case
    if kind in REQUESTS:
        frame = encode_error(ErrorCode.INTERNAL)
        yield _case(f"{kind}: an error frame", kind, frame, ErrorCode.UNEXPECTED_TYPE)
    else:
        frame = b'{"v":1,"type":"error","code":"whatever"}'
        yield _case(f"{kind}: an error with an unknown code", kind, frame, ErrorCode.MALFORMED)
        frame = b'{"v":1,"type":"error","code":"stale","detail":"x"}'
        yield _case(f"{kind}: an error that says more", kind, frame, ErrorCode.MALFORMED)


def _seals(stage: Stage, kind: str) -> Iterator[Case]:
    frame, refused = decode_request(stage.messages[kind], kind), ErrorCode.NOT_AUTHENTICATED
    for seal in ("mac", "sig"):
        octets = getattr(frame, seal)
        if octets:
            changed = encode(replace(frame, **{seal: _flipped(octets)}))
            yield _case(f"{kind}: one bit of its {seal}", kind, changed, refused)
            zeros = encode(replace(frame, **{seal: bytes(len(octets))}))
            yield _case(f"{kind}: zeros for its {seal}", kind, zeros, refused)
    payload = json.loads(frame.payload)
    name = next(n for n in ("nonce", "kem_key", "core", "body", "session_id") if n in payload)
    octets = wire.octets(0, 10**6).decode(payload[name])
    changed = json_encode(payload | {name: b64u_encode(_flipped(octets, 0))})
    message = encode(replace(frame, payload=changed))
    yield _case(f"{kind}: one bit of its payload's {name}", kind, message, refused)


def _documents(stage: Stage, kind: str) -> Iterator[Case]:
    payload = stage.payload(kind)
    for name, octets in _broken(payload):
        message = stage.seal(kind, octets)
        yield _case(f"{kind}: authentic, but {name}", kind, message, ErrorCode.MALFORMED)


def _inner_documents(stage: Stage) -> Iterator[Case]:
    body = wire.encode(wire.EVIDENCE_BODY, evidence_body())
    for kind, what, octets, seal in (
        ("challenge", "core", stage.core(), stage.seal_core),
        ("evidence", "body", body, stage.seal_evidence_body),
        ("release", "body", stage.release_body(), stage.seal_release_body),
    ):
        for name, broken in _broken(octets):
            message = seal(broken)
            label = f"{kind}: authentic, but its {what}: {name}"
            yield _case(label, kind, message, ErrorCode.MALFORMED)


def _broken(octets: bytes) -> Iterator[tuple[str, bytes]]:
    document = json.loads(octets)
    first = next(iter(document))
    yield "a member is missing", json_encode({n: v for n, v in document.items() if n != first})
    yield "an unknown member", json_encode(document | {"x": None})
    yield "a member of another type", json_encode(document | {first: 7})
    yield "a member is null", json_encode(document | {first: None})
    yield "a member twice", octets[:-1] + b"," + json_encode({first: document[first]})[1:]
    yield "not an object", json_encode([document])
    yield "white space before it", b" " + octets
    yield "data behind it", octets + b"{}"


def _sealed_to_server(world: World, hello: wire.Hello) -> bytes:
    kem = suite.KemPublicKey(world.identity.kem_key)
    sealed = kem.seal(bytes(32), hello_info(world.identity.server_id, hello))
    return wire.encode(wire.HELLO, replace(hello, sealed_secret=sealed))


def _agents(stage: Stage) -> Iterator[Case]:
    world, refused = stage.world, ErrorCode.NOT_AUTHENTICATED
    hello: wire.Hello = wire.decode(wire.HELLO, stage.payload("hello"))
    unknown = replace(hello, agent_id="a9e00000-0000-4000-8000-00000000dead")
    payload = _sealed_to_server(world, unknown)
    signed = suite.sign(world.other.key, "hello signature", payload)
    yield _case(
        "hello: of an unknown agent",
        "hello",
        encode(Envelope("hello", payload, sig=signed)),
        refused,
    )
    for number in range(8):
        payload = _sealed_to_server(world, replace(unknown, nonce=bytes([number]) * 32))
        sig = (1).to_bytes(32, "little") + bytes(32)
        forged = encode(Envelope("hello", payload, sig=sig))
        name = f"hello: of an unknown agent, signed for a key of small order, {number}"
        yield _case(name, "hello", forged, refused)
    enrol: wire.Enrol = wire.decode(wire.ENROL, stage.payload("enrol"))
    for number in range(8):
        weak = replace(enrol, identity_key=bytes(32), nonce=bytes([number]) * 32)
        payload = wire.encode(wire.ENROL, weak)
        sig = (1).to_bytes(32, "little") + bytes(32)
        forged = encode(Envelope("enrol", payload, sig=sig))
        yield _case(f"enrol: a key of small order, {number}", "enrol", forged, refused)
    for kind in ("enrol", "hello", "evidence"):
        theirs = _signed_by_other(stage, kind)
        yield _case(f"{kind}: signed by another agent", kind, theirs, refused)
    payload = wire.encode(wire.HELLO, replace(hello, agent_id=world.other.agent_id))
    sig = suite.sign(world.other.key, "hello signature", payload)
    stolen = encode(Envelope("hello", payload, sig=sig))
    yield _case("hello: another agent's name on a secret it saw", "hello", stolen, refused)
    payload = wire.encode(wire.ENROL, replace(enrol, identity_key=world.other.public))
    sig = suite.sign(world.other.key, "enrol signature", payload)
    stolen = encode(Envelope("enrol", payload, sig=sig))
    yield _case("enrol: another key on a token it saw", "enrol", stolen, refused)


def _signed_by_other(stage: Stage, kind: str) -> bytes:
    frame = decode_request(stage.messages[kind], kind)
    parts = (frame.payload,)
    if kind == "evidence":
        parts = (stage.agents["receipt"].transcript, frame.payload)
    sig = suite.sign(stage.world.other.key, f"{kind} signature", *parts)
    return encode(replace(frame, sig=sig))


def _mixed(stage: Stage) -> Iterator[Case]:
    refused = ErrorCode.NOT_AUTHENTICATED
    second = Stage.play(World())
    elsewhere = Stage.play(World("5e7e0000-0000-4000-8000-000000000002", "second server"))
    for kind in ("enrolled", "challenge", "release", "receipt", "kept", "wake"):
        yield _case(f"{kind}: of another session", kind, second.messages[kind], refused)
    for kind in TYPES:
        yield _case(f"{kind}: of another server", kind, elsewhere.messages[kind], refused)
    ours: wire.Evidence = wire.decode(wire.EVIDENCE, stage.payload("evidence"))
    theirs: wire.Evidence = wire.decode(wire.EVIDENCE, second.payload("evidence"))
    for part in ("core", "token", "body"):
        mixed = wire.encode(wire.EVIDENCE, replace(ours, **{part: getattr(theirs, part)}))
        message = stage.seal("evidence", mixed)
        yield _case(f"evidence: with the {part} of another session", "evidence", message, refused)
    core: wire.ChallengeCore = wire.decode(wire.CHALLENGE_CORE, ours.core)
    longer = wire.encode(wire.CHALLENGE_CORE, replace(core, lifetime=300))
    message = stage.seal("evidence", wire.encode(wire.EVIDENCE, replace(ours, core=longer)))
    yield _case("evidence: gives itself more time", "evidence", message, refused)
    cut = replace(ours, token=ours.token[:-1])
    message = stage.seal("evidence", wire.encode(wire.EVIDENCE, cut))
    yield _case("evidence: with a cut token", "evidence", message, refused)
    agent = Exchange(stage.world.identity, stage.world.agent.agent_id, stage.world.agent.key)
    hello = agent.hello(("data", "logs"), evidence_body().boot_id, NOW)
    agent.challenge(challenge(stage.world, hello), b"a certificate in the middle")
    message = agent.evidence(evidence_body())
    yield _case("evidence: over another certificate", "evidence", message, refused)


def _times() -> Iterator[Case]:
    for name, kind, now in (
        ("too late", "evidence", NOW + LIFETIME + 1),
        ("the clock went back", "evidence", NOW - 6),
        ("too late", "ack", NOW + ACK_LIFETIME + 1),
        ("the clock went back", "ack", NOW - 6),
        ("too late", "copy", NOW + ACK_LIFETIME + 1),
        ("the clock went back", "copy", NOW - 6),
        ("too late", "wait", NOW + WAIT_LIFETIME + 1),
        ("the clock went back", "wait", NOW - 6),
    ):
        case = {"endpoint": kind, "message_of": kind, "now": now, "failure": "expired"}
        yield f"{kind}: {name}", case


def _claims(stage: Stage) -> Iterator[Case]:
    body, bad = evidence_body(), ErrorCode.MALFORMED
    other_boot = replace(body, boot_id="b0070000-0000-4000-8000-000000000002")
    octets = wire.encode(wire.EVIDENCE_BODY, other_boot)
    message = stage.seal_evidence_body(octets)
    refused = ErrorCode.NOT_AUTHENTICATED
    yield _case("evidence: of another boot", "evidence", message, refused)
    for name, devices in (
        ("too few", body.devices[:1]),
        ("too many", (*body.devices, wire.DeviceClaim("home", "key", None))),
        ("others", (body.devices[0], replace(body.devices[1], device="home"))),
    ):
        octets = wire.encode(wire.EVIDENCE_BODY, replace(body, devices=devices))
        message = stage.seal_evidence_body(octets)
        yield _case(f"evidence: claims {name}", "evidence", message, bad)
    document = wire.EVIDENCE_BODY.encode(body)
    nested: Any = 1
    for _ in range(12):
        nested = [nested]
    for name, fact in (
        ("with neither provenance nor error", {"value": 1, "provenance": None, "error": None}),
        ("with provenance and error", {"value": 1, "provenance": "claimed", "error": "x"}),
        ("observed by the agent", {"value": 1, "provenance": "observed", "error": None}),
        ("with a NUL", {"value": "a\0", "provenance": "claimed", "error": None}),
        ("nested too deep", {"value": nested, "provenance": "claimed", "error": None}),
        ("that forges a log line", {"value": None, "provenance": None, "error": "a\u2028b"}),
    ):
        octets = json_encode(document | {"facts": {"host_name": fact}})
        message = stage.seal_evidence_body(octets)
        yield _case(f"evidence: a fact {name}", "evidence", message, bad)
    twice = json_encode(document | {"devices": document["devices"][:1] * 2})
    message = stage.seal_evidence_body(twice)
    yield _case("evidence: claims a device twice", "evidence", message, bad)
    core: wire.ChallengeCore = wire.decode(wire.CHALLENGE_CORE, stage.core())
    more = wire.encode(wire.CHALLENGE_CORE, replace(core, devices=("data", "home")))
    message = stage.seal_core(more)
    yield _case("challenge: names a device that was not asked for", "challenge", message, bad)


def _denial(code: str, period: int) -> dict[str, Any]:
    """Return what makes a granted decision one that is denied with a grace."""
    nothing = dict.fromkeys(("key", "key_version", "lineage", "volume"))
    grace = {"period": period, "postpone": 0}
    return {**nothing, "outcome": "denied", "code": code, "grace": grace}


def _header(digest: str | None) -> dict[str, Any]:
    return {"digest": digest, "volume_key": None, "changing": False}


def _offline(**changes: Any) -> dict[str, Any]:
    return {"period": 3600, "boots": 2, "pcrs": [7], **changes}


def _releases(stage: Stage) -> Iterator[Case]:
    body: wire.ReleaseBody = wire.decode(wire.RELEASE_BODY, stage.release_body())
    head, (data, logs) = audit_head(stage.world.responder), decisions()
    refused, bad = ErrorCode.NOT_AUTHENTICATED, ErrorCode.MALFORMED
    for name, changes, code in (
        ("for another session", {"session_id": bytes(16)}, refused),
        ("without a decision", {"decisions": (data,)}, bad),
        ("for another device", {"decisions": (data, replace(logs, device="home"))}, bad),
        ("a key for a check", {"decisions": (data, replace(data, device="logs"))}, bad),
        ("an unsigned tree size", {"audit": replace(head, size=8)}, refused),
        ("an unsigned root", {"audit": replace(head, root=bytes(32))}, refused),
    ):
        octets = wire.encode(wire.RELEASE_BODY, replace(body, **changes))
        message = stage.seal_release_body(octets)
        yield _case(f"release: {name}", "release", message, code)
    document = wire.RELEASE_BODY.encode(body)
    granted = document["decisions"][0]
    for name, change in (
        ("a pending device with its key", {"outcome": "pending"}),
        ("an approval without a key", {"key": None}),
        ("a short key", {"key": b64u_encode(bytes(63))}),
        ("a path upwards", {"volume": granted["volume"] | {"mount_point": "/srv/../etc"}}),
        ("a path with a line end", {"volume": granted["volume"] | {"source": "/dev/a\nb"}}),
        ("an option with a comma", {"volume": granted["volume"] | {"options": ["ro,suid"]}}),
        ("a header without its digest", {"volume": granted["volume"] | {"header": _header(None)}}),
        ("half a digest", {"volume": granted["volume"] | {"header": _header("A" * 22)}}),
        ("a changed header and the key", {"code": "header_changed"}),
        ("a grace beside a grant", {"grace": {"period": 300, "postpone": 0}}),
        ("a revoked key with a grace", _denial("revoked", 300)),
        ("a grace of no length", _denial("policy", 0)),
        ("a grace for ever", _denial("policy", 2**31)),
        ("a denial with a key to keep", {**_denial("policy", 300), "offline": _offline()}),
        ("a key to keep for ever", {"offline": _offline(period=2**31)}),
        ("a key to keep in any state", {"offline": _offline(pcrs=[])}),
        ("a successor that is not newer", {"successor": {"version": 1, "key": "A" * 86}}),
    ):
        changed = document | {"decisions": [granted | change, document["decisions"][1]]}
        message = stage.seal_release_body(json_encode(changed))
        yield _case(f"release: {name}", "release", message, bad)


def _acks(stage: Stage) -> Iterator[Case]:
    ack: wire.Ack = wire.decode(wire.ACK, stage.payload("ack"))
    evidence: wire.Evidence = wire.decode(wire.EVIDENCE, stage.payload("evidence"))
    foreign = (replace(ack.results[0], device="home"),)
    refused, bad = ErrorCode.NOT_AUTHENTICATED, ErrorCode.MALFORMED
    for name, changes, code in (
        ("for another session", {"session_id": bytes(16)}, refused),
        ("with the token of a challenge", {"ack_token": evidence.token}, refused),
        ("with a cut token", {"ack_token": ack.ack_token[:40]}, refused),
        ("for a device that was not decided on", {"results": foreign}, bad),
    ):
        message = stage.seal("ack", wire.encode(wire.ACK, replace(ack, **changes)))
        yield _case(f"ack: {name}", "ack", message, code)


def _copies(stage: Stage) -> Iterator[Case]:
    copy: wire.Copy = wire.decode(wire.COPY, stage.payload("copy"))
    evidence: wire.Evidence = wire.decode(wire.EVIDENCE, stage.payload("evidence"))
    refused, bad = ErrorCode.NOT_AUTHENTICATED, ErrorCode.MALFORMED
    for name, changes, code in (
        ("for another session", {"session_id": bytes(16)}, refused),
        ("with the token of a challenge", {"ack_token": evidence.token}, refused),
        ("with a cut token", {"ack_token": copy.ack_token[:40]}, refused),
        ("of a device that was not decided on", {"device": "home"}, bad),
    ):
        message = stage.seal("copy", wire.encode(wire.COPY, replace(copy, **changes)))
        yield _case(f"copy: {name}", "copy", message, code)
    exchange, payload = stage.agents["receipt"], stage.payload("copy")
    tag = suite.mac(exchange._ack_key, "copy mac", exchange.transcript, payload)
    message = encode(Envelope("copy", payload, mac=tag))
    yield _case("copy: under the key of the ack", "copy", message, refused)
    receipt: wire.Receipt = wire.decode(wire.RECEIPT, stage.payload("receipt"))
    strange = wire.encode(wire.RECEIPT, replace(receipt, copies=("home",)))
    message = stage.seal("receipt", strange)
    yield _case("receipt: asks for a copy of another device", "receipt", message, bad)
    message = stage.seal("kept", wire.encode(wire.KEPT, wire.Kept(bytes(16))))
    yield _case("kept: authentic, but for another session", "kept", message, refused)


def _waits(stage: Stage) -> Iterator[Case]:
    wait: wire.Wait = wire.decode(wire.WAIT, stage.payload("wait"))
    evidence: wire.Evidence = wire.decode(wire.EVIDENCE, stage.payload("evidence"))
    refused = ErrorCode.NOT_AUTHENTICATED
    for name, changes in (
        ("for another session", {"session_id": bytes(16)}),
        ("with the token of a challenge", {"ack_token": evidence.token}),
        ("with a cut token", {"ack_token": wait.ack_token[:40]}),
    ):
        message = stage.seal("wait", wire.encode(wire.WAIT, replace(wait, **changes)))
        yield _case(f"wait: {name}", "wait", message, refused)
    exchange, payload = stage.agents["receipt"], stage.payload("wait")
    tag = suite.mac(exchange._ack_key, "wait mac", exchange.transcript, payload)
    message = encode(Envelope("wait", payload, mac=tag))
    yield _case("wait: under the key of the ack", "wait", message, refused)
    payload = wire.encode(wire.WAKE, wire.Wake(bytes(16), check=True))
    message = stage.seal("wake", payload)
    yield _case("wake: authentic, but for another session", "wake", message, refused)
