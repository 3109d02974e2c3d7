"""The enrolment token as text: `sce.<id>.<secret>.<fingerprint of the server>`."""

import re
from dataclasses import dataclass

from securecloud_protocol.encoding import b64u_decode, b64u_encode
from securecloud_protocol.errors import malformed

_TEXT = re.compile(r"sce\.([a-z0-9]{1,64})\.([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{43})")


@dataclass(frozen=True, slots=True)
class EnrolmentToken:
    """A one-use right to enrol, which also says with which server. `secret` is 32 octets."""

    token_id: str
    secret: bytes
    fingerprint: str

    def __repr__(self) -> str:
        return f"EnrolmentToken({self.token_id})"


def format_token(token: EnrolmentToken) -> str:
    """Return the text form; ValueError when a part has the wrong form."""
    text = f"sce.{token.token_id}.{b64u_encode(token.secret)}.{token.fingerprint}"
    if not _TEXT.fullmatch(text):
        raise ValueError("not the parts of an enrolment token")
    return text


def parse_token(text: str) -> EnrolmentToken:
    """Parse the text form; the error never repeats the text."""
    match = _TEXT.fullmatch(text.strip())
    if not match:
        raise malformed("not an enrolment token (expected sce.<id>.<secret>.<fingerprint>)")
    token_id, secret, fingerprint = match.groups()
    b64u_decode(fingerprint)
    return EnrolmentToken(token_id, b64u_decode(secret), fingerprint)
