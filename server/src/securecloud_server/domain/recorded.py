"""What is kept of a machine's evidence, and which rules can be replayed on it.

A record has two halves. The *document* holds what stays the same from one exchange to the next; it
is kept once. The *circumstances* hold what is another each time; they are small.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from securecloud_server.domain.evaluation import Evidence, Need
from securecloud_server.domain.evidence import Fact, evidence_document, stored_evidence
from securecloud_server.domain.fact_paths import dotted
from securecloud_server.domain.facts import CATALOGUE, FactSpec

PASSING = frozenset({"boot", "request"})
"""Facts that are another in every exchange: they belong to the circumstances."""
OTHER_FIELDS = "*"
"""Stands for withheld fields that the catalogue does not know."""

Asked = Mapping[str, Sequence[str]]
"""The arguments with which each fact was asked for; none means all there is."""


def document(evidence: Evidence, asked: Asked) -> dict[str, Any]:
    """Return what is kept of the facts that were asked for: ``{"asked", "facts", "withheld"}``.

    Fields that may hold secrets are left out and named under ``withheld``, and so is every field
    that the catalogue does not know beside one that may.
    """
    facts, withheld = {}, {}
    for name in sorted(asked.keys() & evidence.keys() - PASSING):
        facts[name], left_out = _without_secrets(CATALOGUE[name], evidence[name])
        if left_out:
            withheld[name] = left_out
    return {
        "asked": {name: sorted(asked[name]) for name in sorted(asked)},
        "facts": evidence_document(facts),
        "withheld": withheld,
    }


def circumstances(evidence: Evidence, asked: Asked) -> dict[str, Any]:
    """Return the facts that are another each time, in the form of ``evidence_document``."""
    server = {name for name, spec in CATALOGUE.items() if spec.supplied_by_server}
    kept = PASSING & evidence.keys() & (asked.keys() | server)
    return evidence_document({name: evidence[name] for name in sorted(kept)})


def _without_secrets(spec: FactSpec, fact: Fact) -> tuple[Fact, list[str]]:
    """Return the fact as it may be kept, and the names of the fields that were left out."""
    private = {key for key, known in spec.fields.items() if known.private}
    if not private or fact.value is None:
        return fact, []
    if type(fact.value) is not dict:  # in no shape that would show where the secret is
        return Fact(None, fact.provenance), sorted(spec.fields)
    kept, left_out = {}, set()
    for key, value in fact.value.items():
        if key not in spec.fields:
            left_out.add(OTHER_FIELDS)
        elif key in private and value is not None:
            left_out.add(key)
        else:
            kept[key] = value
    return Fact(kept, fact.provenance), sorted(left_out)


@dataclass(frozen=True, slots=True)
class Recording:
    """Evidence as it was recorded, and what is missing in it.

    ``evidence`` is what a policy is evaluated on; ``asked`` and ``withheld`` as in ``document``.
    """

    evidence: Evidence
    asked: Asked = field(default_factory=dict)
    withheld: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def gap(self, needs: Iterable[Need]) -> str | None:
        """Return why a rule with these needs cannot be replayed, or None when it can."""
        for name, key in needs:
            reason = self._gap(CATALOGUE[name], key)
            if reason is not None:
                return f"{reason}: {dotted(name, key)}"
        return None

    def _gap(self, spec: FactSpec, key: str | None) -> str | None:
        if not self._is_recorded(spec, key):
            return "not recorded"
        withheld = self.withheld.get(spec.name, ())
        if key in withheld or (key is None and withheld):
            return "cannot be replayed, for it may hold secrets and is not kept"
        return None

    def _is_recorded(self, spec: FactSpec, key: str | None) -> bool:
        if spec.supplied_by_server:
            fact = self.evidence.get(spec.name)
            return fact is not None and (key is None or key in fact.value)
        arguments = self.asked.get(spec.name)
        # Only maps are asked for with arguments: the keys that were wanted.
        return arguments is not None and (not arguments or key in arguments)


def recording(
    kept: Mapping[str, Any], passing: Mapping[str, Any], device: Mapping[str, Any]
) -> Recording:
    """Return a recording from its two halves; ``device`` is the device as it is registered now."""
    known = {"device": {"value": device, "provenance": "observed"}}
    return Recording(
        stored_evidence({**kept["facts"], **passing, **known}), kept["asked"], kept["withheld"]
    )
