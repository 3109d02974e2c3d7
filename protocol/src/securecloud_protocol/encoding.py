"""Strict base64url and JSON, and the length prefix that makes hashing unambiguous."""

import base64
import binascii
import hashlib
import json
from collections.abc import Iterable
from typing import Any, NoReturn

from securecloud_protocol.errors import malformed

MAX_INTEGER = 2**53 - 1
"""Larger ones are refused: not every JSON implementation holds them exactly (RFC 8259, 6)."""


def b64u_encode(octets: bytes) -> str:
    """Return unpadded base64url text (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(octets).rstrip(b"=").decode("ascii")


def b64u_decode(text: str) -> bytes:
    """Return the octets of unpadded, canonical base64url `text`; anything else is malformed."""
    try:
        octets = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), b"-_", True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise malformed("not base64url") from None
    if b64u_encode(octets) != text:
        raise malformed("base64url is padded or not canonical")
    return octets


def length_prefixed(parts: Iterable[bytes]) -> bytes:
    """Join `parts`, each behind its length as four octets, most significant first."""
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def digest(label: bytes, *parts: bytes) -> bytes:
    """Return SHA-256 (32 octets) over the length-prefixed `label` and `parts`."""
    return hashlib.sha256(length_prefixed((label, *parts))).digest()


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise malformed("a JSON object names a member twice")
    return members


def _small_integer(text: str) -> int:
    # Length first: converting a huge literal costs quadratic time.
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:  # noqa: PLR2004 - digits of 2**53, and a sign
        raise malformed("a JSON integer is out of range")
    return int(text)


def _no_fractions(_text: str) -> NoReturn:
    raise malformed("JSON fractions, exponents, NaN and Infinity are not used")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_no_duplicates,
    parse_int=_small_integer,
    parse_float=_no_fractions,
    parse_constant=_no_fractions,
)


def json_decode(octets: bytes) -> Any:
    """Parse UTF-8 JSON: no duplicate members, fractions, lone surrogates or trailing data."""
    try:
        text = octets.decode("utf-8")
        value, end = _DECODER.raw_decode(text)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (UnicodeError, json.JSONDecodeError, RecursionError):
        raise malformed("not UTF-8 JSON") from None
    if end != len(text):
        raise malformed("data after the JSON value")
    return value


def json_encode(value: object) -> bytes:
    """Return compact UTF-8 JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
