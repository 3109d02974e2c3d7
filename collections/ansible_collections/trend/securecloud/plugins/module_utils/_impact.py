# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a policy would do to the machines before it is pushed. Private to this collection.

The server replays the draft on the last evidence of every device that the policy governs; here
its answer becomes lines for people, and a refusal where somebody asked for one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Mapping

from ansible_collections.trend.securecloud.plugins.module_utils._client import Client, path_of
from ansible_collections.trend.securecloud.plugins.module_utils._errors import (
    ApiError,
    FieldError,
    NotSecureCloud,
    SecureCloudError,
)

_DRAFT = "draft."
_NAMED = 10
_SHOWN = 500
_VALUE_LIMIT = 200
_ABSENT = frozenset({"not_found", "method_not_allowed"})


class WouldLoseKeys(SecureCloudError):
    """A policy was not pushed, for machines would lose their keys."""

    code = "would_lose_keys"

    def __init__(self, impact: Impact) -> None:
        advice = "Nothing was changed. To push it all the same: policy_impact: warn"
        super().__init__(f"{impact.summary()}. {advice}")
        self.impact = impact

    def result(self) -> dict[str, Any]:
        """Return the failure as arguments of fail_json."""
        return {**super().result(), "impact": self.impact.returned()}


class CannotForesee(SecureCloudError):
    """The server is too old to say what a policy would do."""

    code = "cannot_foresee"


@dataclass(frozen=True)
class Impact:
    """The server's answer for one draft; see C(POST /policies/NAME:evaluate)."""

    policy: str
    totals: Mapping[str, int]
    devices: tuple[Mapping[str, Any], ...]

    @property
    def may_lose(self) -> int:
        """Return how many devices lose their key, or have one and nobody can tell."""
        return self.totals["may_lose"]

    def returned(self) -> dict[str, Any]:
        """Return what the module returns: the totals, and each device that something happens to."""
        quiet = {"unchanged", "no_evidence"}
        devices = [device for device in self.devices if device["effect"] not in quiet]
        return {"totals": dict(self.totals), "devices": devices}

    def text(self) -> str:
        """Return what stands beside the difference of the text; empty when nothing happens."""
        devices = self.returned()["devices"]
        if not devices:
            return ""
        lines = [f"machines under policy {self.policy}: {_counted(self.totals)}"]
        for device in devices[:_SHOWN]:
            lines.append(f"{device['effect']}: {_step(device)}")
            lines += [f"    {_rule(rule)}" for rule in device["rules"]]
        if len(devices) > _SHOWN:
            lines.append(f"and {len(devices) - _SHOWN} more")
        return "\n".join(lines) + "\n"

    def summary(self) -> str:
        """Return one sentence about the devices that may lose their key; empty without any."""
        devices = [device for device in self.devices if device["may_lose"]]
        if not devices:
            return ""
        named = "; ".join(_brief(device) for device in devices[:_NAMED])
        more = f"; and {len(devices) - _NAMED} more" if len(devices) > _NAMED else ""
        count = f"{len(devices)} of {self.totals['devices']} devices may lose their key"
        return f"policy {self.policy}: {count}: {named}{more}"


def foresee(client: Client, name: str, draft: Mapping[str, Any]) -> Impact:
    """Return what the draft would do; raises ApiError with the fields as a push would name them.

    Raises CannotForesee when the server has no answer to the question.
    """
    try:
        body = client.post(path_of("policies", f"{name}:evaluate"), {"draft": draft}).body
    except ApiError as error:
        if error.code in _ABSENT:
            raise CannotForesee(
                f"this server cannot say which machines policy {name} would take the key from; "
                "upgrade it, or set policy_impact: ignore"
            ) from None
        raise _as_pushed(error, name) from None
    totals, devices = body.get("totals"), body.get("devices")
    if not (isinstance(totals, dict) and "may_lose" in totals and isinstance(devices, list)):
        raise NotSecureCloud(f"the server's answer does not say what policy {name} would do")
    return Impact(name, totals, tuple(devices))


def _as_pushed(error: ApiError, name: str) -> ApiError:
    """Return the error with the fields of the policy, not of the question."""
    errors = tuple(
        FieldError(each.field.removeprefix(_DRAFT), each.expected, each.message)
        for each in error.errors
    )
    request = f"policy {name}"
    return ApiError(request, error.status, error.code, error.detail, errors)


def _counted(totals: Mapping[str, int]) -> str:
    kinds = ("lose", "gain", "changed", "unknown", "no_evidence", "unchanged")
    said = [f"{totals[kind]} {kind.replace('_', ' ')}" for kind in kinds if totals[kind]]
    return f"{totals['devices']}, of these {', '.join(said)}"


def _step(device: Mapping[str, Any]) -> str:
    before, after = _fate(device["before"]), _fate(device["after"])
    return f"{device['device']} (agent {device['agent']}): {before} -> {after}"


def _fate(fate: Mapping[str, Any]) -> str:
    """Return what a machine gets after a boot and, if that differs, what it has until then."""
    said = fate["outcome"] if fate["code"] is None else f"{fate['outcome']} ({fate['code']})"
    if fate["stays_open"] is not None and fate["stays_open"] is not (fate["outcome"] == "granted"):
        said += ", stays open until then" if fate["stays_open"] else ", closes now"
    return said


def _rule(rule: Mapping[str, Any]) -> str:
    value = json.dumps(rule["value"], ensure_ascii=False)
    why = rule["explanation"] or f"holds for {value[:_VALUE_LIMIT]}"
    provenance = f" ({rule['provenance']})" if rule["provenance"] else ""
    return f"{rule['policy']} {rule['path']}: {rule['rule']}: {why}{provenance}"


def _brief(device: Mapping[str, Any]) -> str:
    rules = device["rules"]
    why = f" by {_rule(rules[0])}" if rules else ""
    return f"{_step(device)}{why}"
