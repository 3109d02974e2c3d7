"""The outer frame of every message: version, type, payload octets and what authenticates them."""

from dataclasses import dataclass
from typing import Any

from securecloud_protocol import MAX_COPY_MESSAGE_BYTES, MAX_MESSAGE_BYTES, PROTOCOL_VERSION
from securecloud_protocol.codecs import octets
from securecloud_protocol.encoding import b64u_encode, json_decode, json_encode
from securecloud_protocol.errors import ErrorCode, ProtocolError, malformed
from securecloud_protocol.suite import MAC_BYTES, SIGNATURE_BYTES

_SEALS = {
    "server": ("sig",),
    "enrol": ("sig",),
    "enrolled": ("sig",),
    "hello": ("sig",),
    "challenge": ("mac",),
    "evidence": ("mac", "sig"),
    "release": ("mac",),
    "ack": ("mac",),
    "receipt": ("mac",),
    "copy": ("mac",),
    "kept": ("mac",),
    "wait": ("mac",),
    "wake": ("mac",),
}
_MEMBERS = {
    "payload": octets(2, MAX_COPY_MESSAGE_BYTES),
    "mac": octets(MAC_BYTES),
    "sig": octets(SIGNATURE_BYTES),
}


@dataclass(frozen=True, slots=True)
class Envelope:
    """A decoded frame. Nothing in it has been authenticated yet."""

    type: str
    payload: bytes
    mac: bytes = b""
    sig: bytes = b""


def longest(kind: str) -> int:
    """Return how many octets a message of this type may have."""
    return MAX_COPY_MESSAGE_BYTES if kind == "copy" else MAX_MESSAGE_BYTES


def encode(envelope: Envelope) -> bytes:
    """Return the octets that travel."""
    # By hand, since base64url needs no escaping: a JSON encoder takes twice as long.
    members = [
        f'"{name}":"{b64u_encode(getattr(envelope, name))}"'
        for name in ("payload", *_SEALS[envelope.type])
    ]
    start = f'{{"v":{PROTOCOL_VERSION},"type":"{envelope.type}",'
    data = (start + ",".join(members) + "}").encode("ascii")
    if len(data) > longest(envelope.type):
        raise ValueError(f"{envelope.type}: a message of {len(data)} octets would be refused")
    return data


def _checked_frame(data: bytes, expected: str) -> dict[str, Any]:
    if len(data) > longest(expected):
        raise ProtocolError(ErrorCode.TOO_LARGE, f"message of {len(data)} octets")
    frame = json_decode(data)
    if not isinstance(frame, dict):
        raise malformed("message is not a JSON object")
    version = frame.get("v")
    if type(version) is not int:
        raise malformed("v: expected an integer")
    if version != PROTOCOL_VERSION:
        raise ProtocolError(ErrorCode.UNSUPPORTED_VERSION, f"version {version}")
    return frame


def decode_request(data: bytes, expected: str) -> Envelope:
    """Parse a request, which must be of the `expected` type."""
    return _decode(_checked_frame(data, expected), expected)


def decode(data: bytes, expected: str) -> Envelope:
    """Parse a reply of the `expected` type; an error frame raises its code as `PeerError`.

    Only for replies: a server that honoured error frames would let strangers choose its errors.
    """
    frame = _checked_frame(data, expected)
    if frame.get("type") == "error":
        raise _peer_error(frame)
    return _decode(frame, expected)


def _decode(frame: dict[str, Any], expected: str) -> Envelope:
    kind = frame.get("type")
    if kind != expected:
        if isinstance(kind, str) and (kind in _SEALS or kind == "error"):
            raise ProtocolError(ErrorCode.UNEXPECTED_TYPE, f"got {kind} instead of {expected}")
        raise malformed("type: unknown")
    seals = _SEALS[expected]
    if frame.keys() != {"v", "type", "payload", *seals}:
        raise malformed("envelope: missing or unknown member")
    try:
        members = {name: _MEMBERS[name].decode(frame[name]) for name in ("payload", *seals)}
    except ProtocolError as error:
        raise malformed(f"envelope: {error.detail}") from None
    return Envelope(type=expected, **members)


def encode_error(code: ErrorCode) -> bytes:
    """Return the frame that refuses a message: a closed code and nothing else."""
    return json_encode({"v": PROTOCOL_VERSION, "type": "error", "code": code.value})


def _peer_error(frame: dict[str, Any]) -> ProtocolError:
    if frame.keys() != {"v", "type", "code"}:
        return malformed("error frame: missing or unknown member")
    try:
        return PeerError(ErrorCode(frame["code"]))
    except ValueError:
        return malformed("error frame: unknown code")


class PeerError(ProtocolError):
    """The other side refused; it is not authenticated, so it may only be reported or retried."""

    def __init__(self, code: ErrorCode) -> None:
        super().__init__(code, "refused by the peer")
