"""The SecureCloud key-release exchange, version 1.

Wire messages, the cryptography that protects them and the two state machines that speak them.
`protocol/SPEC.md` describes the same in words; this package is its reference implementation.

Rooms, each importing only those above it:

- `errors`: the closed list of error codes.
- `encoding`: strict base64url, strict JSON, length-prefixed hashing.
- `codecs`: small combinators that turn untrusted JSON into frozen dataclasses and back.
- `suite`: the one set of algorithms.
- `messages`: the wire types.
- `envelope`: the outer frame, `{"v", "type", "payload", "mac" | "sig"}`.
- `transcript`: what both sides hash.
- `token`: the enrolment token as text.
- `state`: what the server seals for itself.
- `agent` and `server`: the two sides.
- `http_binding`: paths, content type and HTTP status of each error code.
"""

__version__ = "0.1.0"

PROTOCOL_VERSION = 1
"""The `v` of every envelope."""

MAX_MESSAGE_BYTES = 256 * 1024
"""No message in either direction is longer, but one."""

MAX_COPY_MESSAGE_BYTES = 1024 * 1024
"""That one: a Copy of a LUKS header."""
