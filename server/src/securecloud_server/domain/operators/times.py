"""The time window operator."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

from securecloud_server.domain.fact_paths import FieldPath, did_you_mean
from securecloud_server.domain.facts import WEEKDAYS
from securecloud_server.domain.operators.condition import Builder, Condition, Outcome
from securecloud_server.domain.operators.values import read_each, read_text
from securecloud_server.domain.policy_errors import Place, shown

_TIME_WANTED = "not provided: expected a time in RFC 3339"
_CLOCK = re.compile(r"(?:([01][0-9]|2[0-3]):([0-5][0-9])|(24):(00))")
_KEYS = ("from", "to", "timezone", "weekdays")
_ZONE = re.compile(r"[A-Za-z0-9_+-]+(?:/[A-Za-z0-9_+-]+){0,2}")
_TIME_LIMIT = 64


def parse_time(value: Any) -> datetime | None:
    """Return an RFC 3339 time with its offset, or None when it is not one."""
    if type(value) is not str or len(value) > _TIME_LIMIT:
        return None
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def _in_window(_path: FieldPath, value: Any, place: Place) -> Condition | None:
    if not isinstance(value, dict):
        place.refuse_value("{from, to, timezone, weekdays}", value)
        return None
    before = len(place.errors)
    for key in value.keys() - set(_KEYS):
        place.key(key).refuse(f"one of {', '.join(_KEYS)}", f"unknown key {shown(key)}")
    start = _read_clock(value, "from", place)
    end = _read_clock(value, "to", place)
    zone_name = value.get("timezone", "UTC")
    zone = _read_zone(zone_name, place.key("timezone"))
    days = read_each(value.get("weekdays", list(WEEKDAYS)), place.key("weekdays"), "weekdays", _day)
    if len(place.errors) > before or start is None or end is None or zone is None or days is None:
        return None
    if start == end:
        place.refuse("two different times", "the window is empty: from and to are the same")
        return None
    days = sorted(set(days), key=WEEKDAYS.index)
    canonical = {"from": value["from"], "to": value["to"], "timezone": zone_name, "weekdays": days}
    named = "" if len(days) == len(WEEKDAYS) else f" on {', '.join(days)}"
    return Condition(
        canonical,
        f"in_window {value['from']} to {value['to']} {zone_name}{named}",
        _window_test(start, end, zone, frozenset(map(WEEKDAYS.index, days))),
        lambda v: f"is {shown(v)}",
    )


def _window_test(
    start: int, end: int, zone: tzinfo, days: frozenset[int]
) -> Callable[[Any], Outcome]:
    """Test local wall-clock minutes; after midnight the weekday is that on which it began."""
    yesterdays = frozenset((day + 1) % len(WEEKDAYS) for day in days)

    def test(v: Any) -> Outcome:
        moment = parse_time(v)
        if moment is None:
            return _TIME_WANTED
        try:
            local = moment.astimezone(zone)
        except OverflowError:
            return _TIME_WANTED
        minute, weekday = local.hour * 60 + local.minute, local.weekday()
        if start < end:
            return start <= minute < end and weekday in days
        return weekday in days if minute >= start else minute < end and weekday in yesterdays

    return test


def _read_clock(window: dict[str, Any], key: str, place: Place) -> int | None:
    expected = "a time of day in quotes, such as '22:00'"
    if key not in window:
        place.key(key).refuse(expected, f"missing key {key!r}")
        return None
    text = window[key]
    found = _CLOCK.fullmatch(text) if isinstance(text, str) else None
    if found is None or (key == "from" and found.group(3)):
        place.key(key).refuse_value(expected, text)
        return None
    hours, minutes = (int(group) for group in found.groups() if group)
    return hours * 60 + minutes


def _read_zone(name: Any, place: Place) -> tzinfo | None:
    if name == "UTC":
        return UTC
    if isinstance(name, str) and _ZONE.fullmatch(name):
        try:
            return ZoneInfo(name)
        except (KeyError, ValueError, OSError):
            pass
    place.refuse_value("a time zone of the IANA database, such as Europe/Berlin", name)
    return None


def _day(value: Any, place: Place) -> str | None:
    text = read_text(value, place)
    if text is None or text in WEEKDAYS:
        return text
    hint = did_you_mean(text, WEEKDAYS)
    place.refuse(f"one of {', '.join(WEEKDAYS)}", f"unknown weekday {shown(text)}{hint}")
    return None


TIME: dict[str, Builder] = {"in_window": _in_window}
