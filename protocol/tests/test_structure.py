"""Members dropped, added, doubled or of another type, by a sender who holds every key it should.

So these messages are perfectly authenticated, and only the strict decoding stands against them.
"""

import copy
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from protocol_world import TYPES, Stage, evidence_body, refusal
from securecloud_protocol import messages as wire
from securecloud_protocol.errors import ErrorCode

Path = tuple[str | int, ...]

MAY_BE_NULL = {
    "lineage",
    "request_id",
    "retry_after",
    "luks_uuid",
    "iscsi",
    "mount_point",
    "header",
    "volume_key",
}
FREE_NAMES = {"facts"}
"""Objects whose member names are data, except where they are lists (in the challenge)."""
CHECKED_VERSION: Path = ("decisions", 1, "key_version")
"""Null is allowed where a check was granted."""
TWICE = "@twice@"


def nodes(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Yield every value in the document with its path; what is free JSON only as a whole."""
    yield path, value
    if isinstance(value, dict):
        for name, item in value.items():
            if not (name == "value" and "provenance" in value):
                yield from nodes(item, (*path, name))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from nodes(item, (*path, number))


def _at(document: Any, path: Path) -> Any:
    for step in path:
        document = document[step]
    return document


def _other_types(value: Any, path: Path) -> Iterator[Any]:
    if isinstance(value, bool):
        yield from (0, "true", None, [], {})
    elif isinstance(value, int):
        yield from (str(value), True, [value], {}, 2**53, -1)
    elif isinstance(value, str):
        yield from (7, True, [value], {}, "\n", value + "\n")
    elif isinstance(value, list):
        yield from ({}, "x", 7, True)
    elif isinstance(value, dict):
        yield from ([value], "x", 7, False)
    if value is not None and not (path and path[-1] in MAY_BE_NULL) and path != CHECKED_VERSION:
        yield None


def mutations(document: Any) -> Iterator[tuple[str, Any]]:
    """Yield every change with a description; the document itself stays as it is."""
    for path, value in nodes(document):
        if isinstance(value, dict) and not (path and path[-1] in FREE_NAMES):
            for name in value:
                yield f"{path} without {name}", _changed(document, path, lambda o, n=name: o.pop(n))
                twice = {TWICE + name: value[name]}
                yield (
                    f"{path} {name} twice",
                    _changed(document, path, lambda o, t=twice: o.update(t)),
                )
            yield f"{path} more", _changed(document, path, lambda o: o.update(extra=1))
        if not path:
            continue
        for other in _other_types(value, path):
            changed = copy.deepcopy(document)
            _at(changed, path[:-1])[path[-1]] = other
            yield f"{path} = {other!r:.30}", changed
    for other in ([document], "x", 77, None, True):
        yield f"{other!r:.30}", other


def _changed(document: Any, path: Path, change: Callable[[Any], object]) -> Any:
    changed = copy.deepcopy(document)
    change(_at(changed, path))
    return changed


def octets(document: Any) -> bytes:
    """Return the JSON, with members named twice where `TWICE` says so."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return text.replace('"' + TWICE, '"').encode()


Seal = Callable[[Stage, bytes], bytes]
DOCUMENTS: dict[str, tuple[str, Callable[[Stage], bytes], Seal]] = {
    kind: (kind, lambda stage, k=kind: stage.payload(k), lambda stage, o, k=kind: stage.seal(k, o))
    for kind in TYPES
    if kind != "release"
}
DOCUMENTS |= {
    "challenge core": ("challenge", Stage.core, Stage.seal_core),
    "evidence body": (
        "evidence",
        lambda _: wire.encode(wire.EVIDENCE_BODY, evidence_body()),
        Stage.seal_evidence_body,
    ),
    "release body": ("release", Stage.release_body, Stage.seal_release_body),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_untouched_document_is_taken(stage: Stage, name: str) -> None:
    kind, original, seal = DOCUMENTS[name]
    untouched = octets(json.loads(original(stage)))
    assert untouched == original(stage)
    stage.deliver(kind, seal(stage, untouched))


@pytest.mark.parametrize("name", DOCUMENTS)
def test_any_other_structure_is_malformed(stage: Stage, name: str) -> None:
    kind, original, seal = DOCUMENTS[name]
    for what, changed in mutations(json.loads(original(stage))):
        message = seal(stage, octets(changed))
        verdict = refusal(lambda message=message: stage.deliver(kind, message))
        assert verdict is ErrorCode.MALFORMED, what


@pytest.mark.parametrize("kind", TYPES)
def test_any_other_envelope_is_refused(stage: Stage, kind: str) -> None:
    frame = json.loads(stage.messages[kind])
    for what, changed in mutations(frame):
        verdict = refusal(lambda changed=changed: stage.deliver(kind, octets(changed)))
        version = isinstance(changed, dict) and type(changed.get("v")) is int and changed["v"] != 1
        expected = ErrorCode.UNSUPPORTED_VERSION if version else ErrorCode.MALFORMED
        if version and changed["v"] > 2**53 - 1:
            expected = ErrorCode.MALFORMED
        assert verdict is expected, what


@pytest.mark.parametrize("name", DOCUMENTS)
@pytest.mark.parametrize("around", [b" %s", b"%s ", b"%s\n", b"%s{}", b"\xef\xbb\xbf%s"])
def test_nothing_stands_around_a_document(stage: Stage, name: str, around: bytes) -> None:
    kind, original, seal = DOCUMENTS[name]
    message = seal(stage, around % original(stage))
    assert refusal(lambda: stage.deliver(kind, message)) is ErrorCode.MALFORMED


def test_the_release_itself_is_decoded_strictly(stage: Stage) -> None:
    """Nothing in it can be authenticated before its first member has been opened."""
    for what, changed in mutations(json.loads(stage.payload("release"))):
        frame = json.loads(stage.messages["release"])
        frame["payload"] = wire.octets(0, 10**6).encode(octets(changed))
        verdict = refusal(lambda frame=frame: stage.deliver("release", octets(frame)))
        assert verdict is ErrorCode.MALFORMED, what
