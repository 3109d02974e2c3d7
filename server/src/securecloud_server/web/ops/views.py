"""Flask views of health and metrics."""

import threading
from collections.abc import Callable, Mapping

from flask import Blueprint, Response, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST

from securecloud_server.domain.errors import NotAuthenticated, NotAuthorized, Unavailable

Check = Callable[[], None]
"""Raises Unavailable with the cause."""

Guard = Callable[[str | None], None]
"""Raises NotAuthenticated or NotAuthorized for an Authorization header."""


_REMEMBERED_SECONDS = 1.0


class Checks:
    """Runs checks for strangers: whoever asks more often gets the last answer again."""

    def __init__(self, checks: Mapping[str, Check], clock: Callable[[], float]) -> None:
        self._checks = checks
        self._clock = clock
        self._lock = threading.Lock()
        self._at = float("-inf")
        self._reasons: dict[str, str] = {}

    def reasons(self) -> dict[str, str]:
        """Return what cannot be used, and why."""
        with self._lock:
            if abs(self._clock() - self._at) >= _REMEMBERED_SECONDS:
                causes = {name: _cause(check) for name, check in self._checks.items()}
                self._reasons = {name: cause for name, cause in causes.items() if cause}
                self._at = self._clock()
            return self._reasons


def ops(checks: Checks, render: Callable[[], bytes], guard: Guard) -> Blueprint:
    """Return the blueprint of /healthz, /readyz and /metrics."""
    blueprint = Blueprint("ops", __name__)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "alive"})

    @blueprint.get("/readyz")
    def readyz() -> tuple[Response, int]:
        reasons = checks.reasons()
        status = {"status": "unavailable" if reasons else "ready", "reasons": reasons}
        return jsonify(status), 503 if reasons else 200

    @blueprint.get("/metrics")
    def metrics() -> Response:
        try:
            guard(request.headers.get("Authorization"))
        except NotAuthenticated:
            return Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        except NotAuthorized:
            return Response(status=403)
        return Response(render(), content_type=CONTENT_TYPE_LATEST)

    return blueprint


def _cause(check: Check) -> str | None:
    try:
        check()
    except Unavailable as error:
        return str(error)
    return None
