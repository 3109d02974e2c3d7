# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Objects that are edited as a whole: first decide, then act. Private to this collection.

`decide_*` compares what is wanted with what is there and returns a Change; `apply` carries it
out. Check mode is the first half alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Mapping

from ansible_collections.trend.securecloud.plugins.module_utils._client import (
    Client,
    Reply,
    path_of,
)
from ansible_collections.trend.securecloud.plugins.module_utils._diff import diff_of
from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption


@dataclass(frozen=True)
class Kind:
    """A kind of object: what it is called, where it lives, and which of its fields are edited.

    `defaults` holds every editable field with its value at creation; `required` those (dotted)
    without a default; `merged` those whose members are edited one by one; `clearable` those
    (dotted) that an empty string sets to null; `alternatives` pairs of members of a merged one
    (dotted) of which giving one takes the other away, so that one of the two is enough where it
    is required.
    """

    label: str
    collection: str
    defaults: Mapping[str, Any]
    required: tuple[str, ...] = ()
    merged: tuple[str, ...] = ()
    clearable: tuple[str, ...] = ()
    alternatives: tuple[tuple[str, str], ...] = ()

    def path(self, name: str) -> str:
        """Return the path of the object with this name."""
        return path_of(self.collection, name)


@dataclass(frozen=True)
class Change:
    """The step from what is there to what is wanted; None stands for no object.

    `force` also removes what is in use.
    """

    kind: Kind
    name: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    etag: str | None = None
    current: Mapping[str, Any] = field(default_factory=dict)
    force: bool = False

    @property
    def needed(self) -> bool:
        """Whether there is anything to do."""
        return self.before != self.after

    def diff(self) -> dict[str, Any]:
        """Return the difference as Ansible shows it."""
        title = f"{self.kind.label} {self.name}"
        return diff_of(title, dict(self.before or {}), dict(self.after or {}))

    def outcome(self) -> dict[str, Any] | None:
        """Return the object as it will be, as far as that is known before acting."""
        if self.after is None:
            return None
        return {**self.current, **self.after, "name": self.name}


def decide_present(
    kind: Kind, name: str, current: Reply | None, wanted: Mapping[str, Any]
) -> Change:
    """Return the change after which the object exists and has the wanted fields.

    What `wanted` leaves out keeps its value, or gets its default with a new object.
    """
    if current is None:
        after = _edited(kind, kind.defaults, wanted)
        _check_required(kind, name, after)
        return Change(kind, name, None, after)
    body = current.body
    before = {key: body[key] for key in kind.defaults if key in body}
    return Change(kind, name, before, _edited(kind, before, wanted), current.etag, body)


def decide_absent(kind: Kind, name: str, current: Reply | None, *, force: bool = False) -> Change:
    """Return the change after which there is no such object."""
    if current is None:
        return Change(kind, name, None, None)
    before = {key: current.body[key] for key in kind.defaults if key in current.body}
    return Change(kind, name, before, None, current.etag, current.body, force)


def apply(client: Client, change: Change) -> dict[str, Any] | None:
    """Carry the change out and return the object as the server has it now."""
    path = change.kind.path(change.name)
    if change.after is None:
        client.delete(path, change.etag, force=change.force)
        return None
    return client.put(path, change.after, change.etag).body


def converge(client: Client, change: Change, check_mode: bool) -> dict[str, Any]:
    """Return a module's result: the change predicted (check mode) or carried out."""
    act = change.needed and not check_mode
    return {
        "changed": change.needed,
        "diff": change.diff(),
        change.kind.label: apply(client, change) if act else change.outcome(),
    }


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given, at every depth."""
    return {
        key: given(value) if isinstance(value, dict) else value
        for key, value in options.items()
        if value is not None
    }


def _edited(kind: Kind, base: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    after = {**base, **wanted}
    for key in kind.merged:
        if key in wanted:
            after[key] = {**(base.get(key) or {}), **_instead(kind, key, wanted[key])}
    for dotted in kind.clearable:
        *parents, last = dotted.split(".")
        holder = after
        for part in parents:
            holder = holder.get(part) or {}
        if holder.get(last) == "":
            holder[last] = None
    return after


def _instead(kind: Kind, key: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is wanted of a merged member, with null for what it takes the place of."""
    pairs = [
        (one.removeprefix(f"{key}."), other.removeprefix(f"{key}."))
        for pair in kind.alternatives
        for one, other in (pair, pair[::-1])
        if one.startswith(f"{key}.")
    ]
    replaced = {other: None for one, other in pairs if one in wanted and other not in wanted}
    return {**replaced, **wanted}


def _check_required(kind: Kind, name: str, fields: Mapping[str, Any]) -> None:
    others = dict(kind.alternatives)
    for dotted in kind.required:
        other = others.get(dotted)
        if _value(fields, dotted) is None and (other is None or _value(fields, other) is None):
            instead = f", or {other} in its place," if other else ","
            message = f"is required{instead} for there is no {kind.label} {name} yet"
            raise InvalidOption(dotted, "a value", message)


def _value(fields: Mapping[str, Any], dotted: str) -> Any:
    value: Any = fields
    for part in dotted.split("."):
        value = (value or {}).get(part)
    return value
