"""Strict base64url and JSON, and the length prefix that makes hashing unambiguous."""

import binascii
import hashlib
import json
from collections.abc import Iterable
from typing import Any, Final, NoReturn

from securecloud_protocol.errors import malformed

MAX_INTEGER = 2**53 - 1
"""Larger ones are refused: not every JSON implementation holds them exactly (RFC 8259, 6)."""

_TO_URL = bytes.maketrans(b"+/", b"-_")
_FROM_URL = bytes.maketrans(b"-_+/=", b"+/...")
_PADDING: Final = {0: b"", 2: b"==", 3: b"="}
_LAST: Final = {2: "AQgw", 3: "AEIMQUYcgkosw048"}
"""Last characters whose unused bits are zero, by length modulo 4."""


def b64u_encode(octets: bytes) -> str:
    """Return unpadded base64url text (RFC 4648, section 5)."""
    padded = binascii.b2a_base64(octets, newline=False)
    return padded.translate(_TO_URL, b"=").decode("ascii")


def b64u_decode(text: str) -> bytes:
    """Return the octets of unpadded, canonical base64url `text`; anything else is malformed."""
    rest = len(text) % 4
    if rest == 1 or (rest and text[-1] not in _LAST[rest]):
        raise malformed("base64url of a wrong length or with unused bits set")
    try:
        standard = text.encode("ascii").translate(_FROM_URL) + _PADDING[rest]
        octets = binascii.a2b_base64(standard)
    except (UnicodeEncodeError, binascii.Error):
        raise malformed("not base64url") from None
    # The lenient mode is twice as fast and drops foreign characters, which shortens the result.
    if len(octets) != len(text) * 3 // 4:
        raise malformed("not base64url")
    return octets


def length_prefixed(parts: Iterable[bytes]) -> bytes:
    """Join `parts`, each behind its length as four octets, most significant first."""
    return b"".join([octets for part in parts for octets in (len(part).to_bytes(4, "big"), part)])


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

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)


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
    return _ENCODER.encode(value).encode()
