"""SPEC.md says what the code does: its tables are compared with the code."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
import securecloud_protocol
from securecloud_protocol import (
    MAX_COPY_MESSAGE_BYTES,
    MAX_MESSAGE_BYTES,
    envelope,
    http_binding,
)
from securecloud_protocol import messages as wire
from securecloud_protocol.codecs import Codec
from securecloud_protocol.errors import ErrorCode
from securecloud_protocol.http_binding import STATUS
from securecloud_protocol.server import ACK_LIFETIME, WAIT_LIFETIME
from securecloud_protocol.suite import label

SPEC = (Path(__file__).parent.parent / "SPEC.md").read_text(encoding="utf-8")
SOURCES = Path(securecloud_protocol.__file__).parent
RECORDS: dict[str, Codec[Any]] = {
    value.name: value for value in vars(wire).values() if isinstance(value, Codec) and value.members
}
PURPOSES_AT = {
    "label": 0,
    "derive": 2,
    "mac": 1,
    "verify_mac": 2,
    "sign": 1,
    "verify_signature": 2,
    "_verify_agent": 2,
    "TokenSealer": 1,
}
"""Functions that take a label, and at which place."""


def table(heading: str) -> list[list[str]]:
    """Return the cells of the first table behind the heading, without its two head lines."""
    section = SPEC.split(f"\n{heading}\n", 1)[1]
    lines = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert lines, heading
    rows = lines.group().splitlines()[2:]
    return [[cell.strip() for cell in row.strip("|").split(" | ")] for row in rows]


def plain(cell: str) -> str:
    return cell.strip().strip("`")


def used_purposes() -> set[str]:
    """Return every label that the sources name."""
    found = set()
    for path in SOURCES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                at = PURPOSES_AT.get(name)
                if at is not None and len(node.args) > at:
                    argument = node.args[at]
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                        found.add(argument.value)
    return found


def test_every_record_has_a_section_and_every_section_a_record() -> None:
    assert set(re.findall(r"^### (`\w+`)$", SPEC, re.MULTILINE)) == set(RECORDS)


@pytest.mark.parametrize("name", RECORDS)
def test_members_in_their_order_with_their_types(name: str) -> None:
    rows = [(plain(row[0]), row[1].strip()) for row in table(f"### {name}")]
    assert rows == [(member, codec.name) for member, codec in RECORDS[name].members.items()]


def test_labels() -> None:
    rows = [plain(row[0]) for row in table("### Labels")]
    assert len(set(rows)) == len(rows)
    assert set(rows) == used_purposes()
    assert "`securecloud/1 `" in SPEC
    assert label("hello") == b"securecloud/1 hello"


def test_kinds_of_text() -> None:
    rows = {row[0]: plain(row[1]) for row in table("### Kinds of text")}
    source = (SOURCES / "messages.py").read_text(encoding="utf-8")
    in_code = dict(re.findall(r'\btext\("([^"]+)", r"([^"]+)"\)', source))
    assert rows == in_code
    for point in re.findall(r"\\u[0-9a-f]{4}", wire._UNPRINTABLE):
        assert f"U+{point[2:].upper()}" in SPEC


def test_envelopes() -> None:
    rows = {plain(row[0]): row[1:] for row in table("## 4. Envelope")}
    assert set(rows) == set(envelope._SEALS)
    for kind, (_, payload, mac, sig) in rows.items():
        seals = tuple(
            name for name, has in (("mac", mac), ("sig", sig)) if has.strip(" |") == "yes"
        )
        assert seals == envelope._SEALS[kind]
        assert payload in RECORDS


def test_error_codes_and_their_status() -> None:
    rows = [(plain(row[0]), int(row[1])) for row in table("## 15. Errors")]
    assert rows == [(code.value, int(STATUS[code])) for code in ErrorCode]


def test_decision_codes() -> None:
    section = SPEC.split("### `DeviceDecision`", 1)[1].split("| code | outcome | meaning |", 1)[1]
    rows = re.findall(r"^\| `(\w+)` \|", section.split("\n\n", 1)[0], re.MULTILINE)
    assert tuple(rows) == wire.DECISION_CODES


def test_limits() -> None:
    assert [int(plain(row[1])) for row in table("## 16. Limits")] == [
        MAX_MESSAGE_BYTES,
        MAX_COPY_MESSAGE_BYTES,
        wire.MAX_DEVICES,
        wire.MAX_CORE_BYTES,
        wire.MAX_BODY_BYTES,
        wire.MAX_TOKEN_BYTES,
        wire.MAX_HEADER_BYTES,
        ACK_LIFETIME,
        WAIT_LIFETIME,
        http_binding.LONGEST_WAIT,
    ]


def test_http_paths() -> None:
    rows = [(row[0], plain(row[1])) for row in table("## 18. HTTP")]
    assert rows == [
        ("GET", http_binding.ENROL_PATH),
        ("POST", http_binding.ENROL_PATH),
        ("POST", http_binding.HELLO_PATH),
        ("POST", http_binding.EVIDENCE_PATH),
        ("POST", http_binding.ACK_PATH),
        ("POST", http_binding.COPY_PATH),
        ("POST", http_binding.WAIT_PATH),
    ]
    assert f"`{http_binding.CONTENT_TYPE}`" in SPEC
