"""Flask views of health and metrics."""

from collections.abc import Callable, Mapping

from flask import Blueprint, Response, jsonify, request
from prometheus_client import CONTENT_TYPE_LATEST

from securecloud_server.domain.errors import NotAuthenticated, NotAuthorized, Unavailable

Check = Callable[[], None]
"""Raises Unavailable with the cause."""

Guard = Callable[[str | None], None]
"""Raises NotAuthenticated or NotAuthorized for an Authorization header."""


def ops(checks: Mapping[str, Check], render: Callable[[], bytes], guard: Guard) -> Blueprint:
    """Return the blueprint of /healthz, /readyz and /metrics."""
    blueprint = Blueprint("ops", __name__)

    @blueprint.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "alive"})

    @blueprint.get("/readyz")
    def readyz() -> tuple[Response, int]:
        reasons = {name: cause for name, check in checks.items() if (cause := _cause(check))}
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
