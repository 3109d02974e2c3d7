"""The command: what it takes, what it prints, how it ends."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from securecloud_audit.main import main

from audit.tests.bundles import Bundle, make, server


def pem(key: Any) -> bytes:
    octets: bytes = key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return octets


@pytest.fixture
def key_file(bundle: Bundle, tmp_path: Path) -> Path:
    key = Ed25519PublicKey.from_public_bytes(bundle.responder.identity.signing_key)
    path = tmp_path / "server.pem"
    path.write_bytes(pem(key))
    return path


def test_a_verified_bundle(bundle: Bundle, capsys: Any) -> None:
    fingerprint = bundle.responder.fingerprint
    assert main(["verify", str(bundle.path), "--fingerprint", fingerprint]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{bundle.path}: verified\n")
    assert (
        "events       12: 9 to 20, 2027-01-15T17:00:02.250Z to 2027-01-16T04:00:05.000Z" in printed
    )
    assert f"fingerprint {fingerprint}" in printed
    assert "40 events, 2027-01-15T08:00:00.000Z" in printed


def test_the_fingerprint_in_hex_and_the_key_in_a_file(bundle: Bundle, key_file: Path) -> None:
    assert main(["verify", str(bundle.path), "--fingerprint", bundle.fingerprint.hex()]) == 0
    assert main(["verify", str(bundle.path), "--public-key", str(key_file)]) == 0


def test_a_fingerprint_that_looks_like_an_option(tmp_path: Path) -> None:
    responder = next(one for one in map(server, range(256)) if one.fingerprint.startswith("-"))
    bundle = make(tmp_path / "bundle.db", responder)
    assert main(["verify", "--fingerprint", responder.fingerprint, str(bundle.path)]) == 0


def test_json(bundle: Bundle, capsys: Any) -> None:
    arguments = ["verify", str(bundle.path), "--json", "--fingerprint", bundle.fingerprint.hex()]
    assert main(arguments) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["verified"] is True
    assert report["findings"] == []
    assert report["events"] == 12
    assert report["range"] == {"start": 9, "end": 21}
    assert report["head"]["size"] == 40
    bundle.sql("DELETE FROM events WHERE seq = 9")
    assert main(arguments) == 1
    report = json.loads(capsys.readouterr().out)
    assert report["verified"] is False
    assert "event 9 is missing" in report["findings"]


def test_findings_are_lines(bundle: Bundle, capsys: Any) -> None:
    bundle.sql("UPDATE events SET reason = 'x' WHERE seq = 9")
    assert main(["verify", str(bundle.path), "--fingerprint", bundle.fingerprint.hex()]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{bundle.path}: NOT VERIFIED",
        "  - event 9: reason does not follow from its leaf",
    ]


def test_without_a_key_there_is_no_proof(bundle: Bundle, capsys: Any) -> None:
    assert main(["verify", str(bundle.path)]) == 1
    assert "nothing says whose this is" in capsys.readouterr().out


def test_an_empty_bundle(tmp_path: Path, capsys: Any) -> None:
    for name, log in (("empty log", []), ("empty range", [b"x"] * 5)):
        bundle = make(tmp_path / f"{name}.db", server(), log, 0, 0)
        assert main(["verify", str(bundle.path), "--fingerprint", bundle.fingerprint.hex()]) == 0
        assert "events       0: none" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "COMMAND"),
        (["verify"], "BUNDLE"),
        (["verify", "{bundle}", "--fingerprint", "abc"], "43 characters of base64url or 64 hex"),
        (["verify", "{bundle}", "--fingerprint"], "--fingerprint: expected one argument"),
        (["verify", "{bundle}", "--public-key", "/nowhere"], "cannot read /nowhere: No such file"),
        (
            ["verify", "{bundle}", "--public-key", "{bundle}"],
            "expected an Ed25519 public key in PEM",
        ),
        (
            ["verify", "{bundle}", "--public-key", "{other}"],
            "expected an Ed25519 public key in PEM",
        ),
        (["verify", "{bundle}", "--public-key", "{key}", "--fingerprint", "0" * 64], "not allowed"),
    ],
)
def test_wrong_usage(
    bundle: Bundle, key_file: Path, tmp_path: Path, capsys: Any, arguments: list[str], message: str
) -> None:
    other = tmp_path / "other.pem"
    other.write_bytes(pem(generate_private_key(SECP256R1()).public_key()))
    names = {"bundle": bundle.path, "key": key_file, "other": other}
    with pytest.raises(SystemExit) as ended:
        main([argument.format(**names) for argument in arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_no_bundle_at_all(tmp_path: Path, capsys: Any) -> None:
    assert main(["verify", str(tmp_path / "absent.db")]) == 2
    assert capsys.readouterr().err == (
        f"securecloud-audit: {tmp_path}/absent.db: there is no such file\n"
    )


def test_the_auditor_s_machine_needs_little(bundle: Bundle) -> None:
    """Neither the server nor anything that only the server needs is loaded."""
    program = (
        "import sys; there = set(sys.modules); "
        "from securecloud_audit.main import main; code = main(sys.argv[1:]); "
        "print(*{name.partition('.')[0] for name in sys.modules.keys() - there}); sys.exit(code)"
    )
    arguments = ["verify", str(bundle.path), "--fingerprint", bundle.responder.fingerprint]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.splitlines()[-1].split())
    known = sys.stdlib_module_names | {"cryptography", "securecloud_audit", "securecloud_protocol"}
    assert {name for name in loaded - known if not name.startswith(("_", "cffi"))} == set()
