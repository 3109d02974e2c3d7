"""A request and its answer, whatever carries them; and who answers what."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple

Headers = Sequence[tuple[str, str]]


class Request(NamedTuple):
    """A request whose body is complete; None stands for a body that was too long to keep.

    `headers` have names in lower case; `source` is the peer's address.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    source: str
    body: bytes | None


class Answer(NamedTuple):
    """Status, headers and body."""

    status: int
    headers: Headers
    body: bytes


Handler = Callable[[Request], Answer]

HeldHandler = Callable[[Request], Awaitable[Answer]]
"""Answers on the event loop, when it has something to say."""


def by_prefix(prefix: str, below: Handler, otherwise: Handler) -> Handler:
    """Return a handler that gives what is below `prefix` to one handler, the rest to another."""

    def handle(request: Request) -> Answer:
        return below(request) if request.path.startswith(prefix) else otherwise(request)

    return handle
