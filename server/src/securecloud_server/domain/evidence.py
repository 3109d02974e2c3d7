"""Evidence: facts about a machine, each with the value seen and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from securecloud_server.domain.facts import CATALOGUE


class Provenance(StrEnum):
    """Who vouches for a fact, weakest first."""

    CLAIMED = "claimed"
    CLOUD_CONFIRMED = "cloud_confirmed"
    CLOUD_SIGNED = "cloud_signed"
    TPM_QUOTED = "tpm_quoted"
    OBSERVED = "observed"

    @property
    def rank(self) -> int:
        """Return the position in the order, 0 for the weakest."""
        return _ORDER.index(self)

    def and_stronger(self) -> frozenset[Provenance]:
        """Return this provenance and all that satisfy a demand for it."""
        return frozenset(_ORDER[self.rank :])


_ORDER = tuple(Provenance)


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact's value (JSON types only) and provenance, or the reason why it is missing."""

    value: Any = None
    provenance: Provenance = Provenance.CLAIMED
    error: str | None = None

    @classmethod
    def failed(cls, reason: str) -> Fact:
        """Return a fact that could not be collected."""
        return cls(error=reason)

    def to_document(self) -> dict[str, Any]:
        """Return ``{"value", "provenance"}`` or ``{"error"}``."""
        if self.error is not None:
            return {"error": self.error}
        return {"value": self.value, "provenance": self.provenance.value}


def agent_evidence(document: Mapping[str, Any]) -> dict[str, Fact]:
    """Return the facts of a document that an agent sent.

    Whatever provenance the agent writes, its facts are claims; unknown facts and those which only
    the server may supply are dropped. Malformed entries become facts in error.
    """
    return {
        name: _read(entry, trusted=False)
        for name, entry in document.items()
        if name in CATALOGUE and not CATALOGUE[name].supplied_by_server
    }


def stored_evidence(document: Mapping[str, Any]) -> dict[str, Fact]:
    """Return the facts of a document that the server stored; their provenance is believed."""
    return {
        name: _read(entry, trusted=True) for name, entry in document.items() if name in CATALOGUE
    }


def evidence_document(evidence: Mapping[str, Fact]) -> dict[str, Any]:
    """Return the JSON form ``{fact: {"value", "provenance"} | {"error"}}``."""
    return {name: fact.to_document() for name, fact in evidence.items()}


def _read(entry: object, *, trusted: bool) -> Fact:
    match entry:
        case {"error": str(reason), **rest} if not rest:
            return Fact.failed(reason)
        case {"value": value, **rest} if not rest.keys() - {"provenance"}:
            if not trusted:
                return Fact(value)
            return _believed(value, rest.get("provenance"))
    return Fact.failed("malformed evidence")


def _believed(value: object, provenance: object) -> Fact:
    if isinstance(provenance, str) and provenance in list(Provenance):
        return Fact(value, Provenance(provenance))
    return Fact.failed("unknown provenance")
