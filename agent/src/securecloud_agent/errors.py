"""What an operator is told: errors with a remedy, and one safe line at a time on stderr."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

_LINE_LIMIT = 600


class AgentError(Exception):
    """Something went wrong that the operator can act on.

    The text says what happened and what to do; it never holds a secret. `code` is a closed word
    for machine-readable output.
    """

    code = "failed"

    def __init__(self, text: str, code: str | None = None) -> None:
        super().__init__(text)
        if code is not None:
            self.code = code


class ConfigError(AgentError):
    """Settings are missing or wrong; the text names the setting and what is expected."""

    code = "configuration"


def printable(text: object, limit: int = _LINE_LIMIT) -> str:
    """Return `text` as one line without control, format or line-breaking characters.

    Names, paths and messages come from servers and files: a line break in one of them must not
    forge a line of the journal.
    """
    line = "".join(character if character.isprintable() else "?" for character in str(text))
    return line if len(line) <= limit else line[: limit - 1] + "…"


def say(text: object) -> None:
    """Write one line for the operator to stderr."""
    print(f"securecloud-agent: {printable(text)}", file=sys.stderr, flush=True)


def warn(text: object) -> None:
    """Write one line that asks for attention."""
    say(f"warning: {text}")


@contextmanager
def warned(what: str) -> Iterator[None]:
    """Turn an AgentError into a warning, where the work that was done must not be given up."""
    try:
        yield
    except AgentError as error:
        warn(f"{what}: {error}")
