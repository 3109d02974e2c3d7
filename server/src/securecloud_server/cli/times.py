"""Moments as people write them on a command line."""

import re
from datetime import UTC, datetime, timedelta

from securecloud_server.domain.errors import FieldError, Invalid

EXPECTED = (
    "a time such as 2026-01-31T12:00:00Z, a day such as 2026-01-31, or a duration such as 30d"
)

_DURATION = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def milliseconds(option: str, text: str, now: float) -> int:
    """Return the moment that `text` names, since 1970; `option` is named when it does not.

    ISO 8601 with a time zone; a day, which begins at midnight UTC; or a duration: so long ago.
    """
    duration = _DURATION.fullmatch(text)
    if duration:
        count, unit = duration.groups()
        return max(0, int((now - int(count) * _SECONDS[unit]) * 1000))
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _refused(option, f"{text!r:.80} is none") from None
    if _DAY.fullmatch(text):
        moment = moment.replace(tzinfo=UTC)
    if moment.tzinfo is None:
        raise _refused(option, f"{text!r:.80} has no time zone; put Z behind it for UTC")
    since = (moment - _EPOCH) // timedelta(milliseconds=1)
    if since < 0:
        raise _refused(option, f"{text!r:.80} is before 1970")
    return since


def _refused(option: str, problem: str) -> Invalid:
    return Invalid([FieldError(option, EXPECTED, f"expected {EXPECTED}; {problem}")])
