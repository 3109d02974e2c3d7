"""Who this agent is, and which server it trusts: made or learned once, never overwritten."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from securecloud_protocol.encoding import b64u_decode, b64u_encode
from securecloud_protocol.errors import ProtocolError

from securecloud_agent.state.files import StateError, read_json, write_json, write_new_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The binding that enrolment made: this agent's id, and the pinned server."""

    agent_id: str
    agent_name: str
    server_id: str
    kem_key: bytes
    signing_key: bytes
    fingerprint: str


def identity_key(state_dir: Path) -> "Ed25519PrivateKey":
    """Return the machine's identity key; it is made here the first time and never leaves."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
    )

    path = state_dir / "identity.key"
    try:
        octets = path.read_bytes()
    except FileNotFoundError:
        octets = Ed25519PrivateKey.generate().private_bytes_raw()
        write_new_file(path, octets, 0o600)
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}") from None
    if len(octets) != _KEY_BYTES:
        raise StateError(f"{path} is damaged: {len(octets)} octets instead of {_KEY_BYTES}")
    return Ed25519PrivateKey.from_private_bytes(octets)


def save_enrolled(state_dir: Path, enrolled: Enrolled) -> None:
    """Remember the binding; an existing one is never replaced."""
    if read_enrolled(state_dir) is not None:
        raise StateError(f"{state_dir} already holds an enrolment; it is never overwritten")
    write_json(
        state_dir / "server.json",
        {
            "agent_id": enrolled.agent_id,
            "agent_name": enrolled.agent_name,
            "server_id": enrolled.server_id,
            "kem_key": b64u_encode(enrolled.kem_key),
            "signing_key": b64u_encode(enrolled.signing_key),
            "fingerprint": enrolled.fingerprint,
        },
    )


def read_enrolled(state_dir: Path) -> Enrolled | None:
    """Return the binding, or None before enrolment."""
    path = state_dir / "server.json"
    found: Any = read_json(path)
    if found is None:
        return None
    try:
        return Enrolled(
            agent_id=str(found["agent_id"]),
            agent_name=str(found["agent_name"]),
            server_id=str(found["server_id"]),
            kem_key=b64u_decode(found["kem_key"]),
            signing_key=b64u_decode(found["signing_key"]),
            fingerprint=str(found["fingerprint"]),
        )
    except (KeyError, TypeError, AttributeError, ProtocolError):
        raise StateError(f"{path} is damaged; restore it from a backup") from None


def require_enrolled(state_dir: Path) -> Enrolled:
    """Return the binding; raise when there is none yet."""
    enrolled = read_enrolled(state_dir)
    if enrolled is None:
        raise StateError(
            f"this machine is not enrolled ({state_dir}); run"
            " `securecloud-agent enrol --token-file PATH` with a token from the server",
            "not_enrolled",
        )
    return enrolled
