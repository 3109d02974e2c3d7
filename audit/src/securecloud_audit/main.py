"""The command line: `securecloud-audit`."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from securecloud_protocol.encoding import b64u_decode
from securecloud_protocol.errors import ProtocolError

from securecloud_audit import __version__, leaf
from securecloud_audit.reader import Unreadable
from securecloud_audit.verify import Pin, Report, verify

VERIFIED, NOT_VERIFIED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, 130

_FINGERPRINT_BYTES = 32
_HEX = re.compile(r"[0-9A-Fa-f]{64}")
_MAX_KEY_FILE = 64 * 1024


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0 verified, 1 not verified, 2 wrong usage or no bundle."""
    parser = _parser()
    options = parser.parse_args(_joined(sys.argv[1:] if arguments is None else arguments))
    try:
        pin = Pin(options.fingerprint, options.public_key)
        report = verify(options.bundle, pin, _progress)
    except Unreadable as problem:
        print(f"securecloud-audit: {options.bundle}: {problem}", file=sys.stderr)
        return WRONG_USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    if options.json:
        print(json.dumps(_document(report)))
    else:
        _print(options.bundle, report)
    return VERIFIED if report.verified else NOT_VERIFIED


def _joined(arguments: Sequence[str]) -> list[str]:
    """Join --fingerprint and its value: base64url may begin with the sign of an option."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--fingerprint":
            joined[-1] += f"={argument}"
        else:
            joined.append(argument)
    return joined


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="securecloud-audit",
        description="Verify evidence bundles of a SecureCloud management server, offline.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser(
        "verify",
        help="check a bundle",
        description="Check a bundle: its form, its signature, and every event in it. "
        "Exit status: 0 verified, 1 not verified, 2 wrong usage or not a bundle at all.",
    )
    command.add_argument("bundle", type=Path, metavar="BUNDLE")
    known = command.add_mutually_exclusive_group()
    known.add_argument(
        "--fingerprint",
        type=_fingerprint,
        metavar="TEXT",
        help="the server's fingerprint as it shows it (base64url), or the same octets in hex",
    )
    known.add_argument(
        "--public-key",
        type=_public_key,
        metavar="FILE",
        help="the server's Ed25519 public key, PEM",
    )
    command.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _fingerprint(text: str) -> bytes:
    try:
        octets = bytes.fromhex(text) if _HEX.fullmatch(text) else b64u_decode(text)
    except ProtocolError:
        octets = b""
    if len(octets) != _FINGERPRINT_BYTES:
        raise argparse.ArgumentTypeError(
            "expected 43 characters of base64url or 64 hexadecimal digits"
        )
    return octets


def _public_key(name: str) -> bytes:
    try:
        with Path(name).open("rb") as file:
            text = file.read(_MAX_KEY_FILE)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"cannot read {name}: {error.strerror}") from None
    try:
        key = load_pem_public_key(text)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PublicKey):
        raise argparse.ArgumentTypeError(f"expected an Ed25519 public key in PEM form in {name}")
    return key.public_bytes_raw()


def _progress(seen: int, total: int) -> None:
    print(f"{seen} of {total} events", file=sys.stderr)


def _document(report: Report) -> dict[str, Any]:
    document: dict[str, Any] = {
        "verified": report.verified,
        "findings": list(report.findings),
        "findings_omitted": report.omitted,
        "events": report.events,
    }
    stated = report.manifest
    if stated is not None:
        document |= {
            "server_id": stated.server.server_id,
            "fingerprint": stated.fingerprint,
            "made_at": _moment(stated.made_at * 1000),
            "since": _moment(stated.since),
            "until": _moment(stated.until),
            "range": {"start": stated.range.start, "end": stated.range.end},
            "head": {
                "size": stated.head.size,
                "root": stated.head.root.hex(),
                "at": _moment(stated.head.time * 1000),
            },
        }
    return document


def _print(bundle: Path, report: Report) -> None:
    print(f"{bundle}: {'verified' if report.verified else 'NOT VERIFIED'}")
    for finding in report.findings:
        print(f"  - {finding}")
    if report.omitted:
        print(f"  - and {report.omitted} more of the kind")
    stated = report.manifest
    if stated is None or not report.verified:
        return
    span = "none"
    if report.events:
        span = f"{stated.range.start} to {stated.range.end - 1}, {report.first} to {report.last}"
    print(f"server       {stated.server.server_id}, fingerprint {stated.fingerprint}")
    print(f"made         {_moment(stated.made_at * 1000)}")
    print(f"asked for    {_asked(stated.since, stated.until)}")
    print(f"events       {report.events}: {span}")
    print(f"signed head  {stated.head.size} events, {_moment(stated.head.time * 1000)}")
    print(f"root         {stated.head.root.hex()}")


def _asked(since: int | None, until: int | None) -> str:
    if since is None and until is None:
        return "all"
    return f"from {_moment(since) or 'the first'} until {_moment(until) or 'the last'}"


def _moment(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    try:
        return leaf.time_text(milliseconds)
    except leaf.LeafError:
        return f"{milliseconds} ms after 1970"


if __name__ == "__main__":
    sys.exit(main())
