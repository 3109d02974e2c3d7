"""Field paths as policies write them: ``location.region``, ``file_digests."/etc/passwd"``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from securecloud_server.domain.facts import CATALOGUE, FactSpec, Field, FieldType

PATH_LIMIT = 1024
_QUOTED = r'"(?:[^"\\]|\\.)*"'
_BARE = re.compile(r"[A-Za-z0-9_+-]+")
_SEGMENT = re.compile(rf"(?:{_BARE.pattern}|{_QUOTED})(?:\.|\Z)")
_PACKAGE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._:~-]{0,254}")
_REGISTERS = frozenset(map(str, range(24)))
_SEGMENTS = 2


class FactPathError(ValueError):
    """A path leads to no field; ``expected`` says what would be right."""

    def __init__(self, expected: str, message: str) -> None:
        self.expected = expected
        super().__init__(message)


@dataclass(frozen=True, slots=True)
class FieldPath:
    """A resolved path: the fact, the key inside it (None for the fact itself), the field there."""

    spec: FactSpec
    key: str | None
    field: Field

    def __str__(self) -> str:
        """Return the canonical text; keys are quoted only where they must be."""
        return dotted(self.spec.name, self.key)


def dotted(fact: str, key: str | None) -> str:
    """Return the text of a path, quoting the key where it must be."""
    if key is None:
        return fact
    bare = _BARE.fullmatch(key)
    return f"{fact}.{key if bare else json.dumps(key, ensure_ascii=False)}"


def resolve(text: str) -> FieldPath:
    """Return the field to which a path leads; raises FactPathError with the closest names."""
    name, *rest = _split(text)
    spec = find_fact(name)
    if not rest:
        return FieldPath(spec, None, _whole(spec))
    if len(rest) >= _SEGMENTS:
        raise FactPathError(
            "a fact and one field", f"{text!r} has too many parts{_quote_hint(spec, text)}"
        )
    return FieldPath(spec, rest[0], find_field(spec, rest[0]))


def find_fact(name: str) -> FactSpec:
    """Return a fact of the catalogue; raises FactPathError with the closest name."""
    try:
        return CATALOGUE[name]
    except KeyError:
        raise FactPathError(
            f"one of {', '.join(CATALOGUE)}",
            f"unknown fact {name!r}{did_you_mean(name, CATALOGUE)}",
        ) from None


def find_field(spec: FactSpec, key: str) -> Field:
    """Return the field behind a key of a fact; raises FactPathError."""
    if spec.fields:
        if key in spec.fields:
            return spec.fields[key]
        raise FactPathError(
            f"one of {', '.join(spec.fields)}",
            f"fact {spec.name!r} has no field {key!r}{did_you_mean(key, spec.fields)}",
        )
    if spec.field is None or spec.field.values is None:
        raise FactPathError(f"{spec.name} without a field", f"fact {spec.name!r} has no fields")
    check_map_key(spec, key)
    return Field(spec.field.values, f"{spec.name} of {key}")


def check_map_key(spec: FactSpec, key: str) -> None:
    """Raise FactPathError for a key that an agent must not be asked for."""
    if spec.name == "packages" and not _PACKAGE_NAME.fullmatch(key):
        raise FactPathError("a package name", f"{key!r} is not a package name")
    if spec.name == "file_digests" and not _is_clean_absolute(key):
        raise FactPathError(
            "an absolute path without '.', '..' or '//'",
            f"{key!r} is not a clean absolute path{_quote_hint(spec, None)}",
        )
    if spec.name == "tpm_pcrs" and key not in _REGISTERS:
        raise FactPathError("a register from 0 to 23", f"{key!r} is not a register of a TPM")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?`` for the closest known name, or nothing."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _split(text: str) -> list[str]:
    if len(text) > PATH_LIMIT:
        raise FactPathError(f"at most {PATH_LIMIT} characters", "the path is too long")
    parts: list[str] = []
    position = 0
    while position < len(text) or not parts or text[position - 1] == ".":
        found = _SEGMENT.match(text, position)
        if found is None:
            raise FactPathError(
                'names joined by dots, such as os.id or packages."libssl1.1"',
                f"{text!r} is not a path; quote names with other characters",
            )
        parts.append(_unquote(found.group().removesuffix(".")))
        position = found.end()
    return parts


def _unquote(part: str) -> str:
    if not part.startswith('"'):
        return part
    try:
        return str(json.loads(part))
    except ValueError:
        raise FactPathError("a quoted name as in JSON", f"{part} is badly quoted") from None


def _whole(spec: FactSpec) -> Field:
    if spec.field is None:
        raise FactPathError(
            f"one of {', '.join(dotted(spec.name, key) for key in spec.fields)}",
            f"fact {spec.name!r} holds several fields; name one of them",
        )
    return spec.field


def _quote_hint(spec: FactSpec, text: str | None) -> str:
    if spec.field is None or spec.field.type is not FieldType.MAP:
        return ""
    if text is None:
        return ""
    return f"; quote the name: {spec.name}.{json.dumps(text.removeprefix(spec.name + '.'))}"


def _is_clean_absolute(path: str) -> bool:
    parts = path.split("/")
    return (
        path.isprintable()
        and parts[0] == ""
        and len(parts) > 1
        and not {"", ".", ".."}.intersection(parts[1:])
    )
