"""The Flask application of the admin API: every resource, one way to refuse, one description."""

from collections.abc import Callable
from typing import Any, NoReturn

from flask import Response, jsonify
from flask_openapi3.blueprint import APIBlueprint
from flask_openapi3.models.info import Info
from flask_openapi3.openapi import OpenAPI
from pydantic import ValidationError
from securecloud_protocol import MAX_MESSAGE_BYTES

from securecloud_server import __version__
from securecloud_server.services.administration import Administration
from securecloud_server.web.admin.agents import agents
from securecloud_server.web.admin.audit import audit
from securecloud_server.web.admin.device_groups import device_groups
from securecloud_server.web.admin.devices import devices
from securecloud_server.web.admin.enrollment_tokens import enrollment_tokens
from securecloud_server.web.admin.evidence import evidence
from securecloud_server.web.admin.invalid import invalid_request
from securecloud_server.web.admin.key_exports import key_exports
from securecloud_server.web.admin.key_requests import key_requests
from securecloud_server.web.admin.keys import keys
from securecloud_server.web.admin.models import PROBLEM, Problem
from securecloud_server.web.admin.policies import policies
from securecloud_server.web.admin.policy_impact import policy_impact
from securecloud_server.web.admin.server import About, server
from securecloud_server.web.admin.tokens import tokens
from securecloud_server.web.auth import audit_refusals, authenticate
from securecloud_server.web.problems import handle_errors
from securecloud_server.web.strict_json import StrictJson, check_request

BASE = "/api/v1"
_SECURITY: dict[str, Any] = {"token": {"type": "http", "scheme": "bearer"}}
_ABOUT = "Policies, devices, agents, key requests, keys and the audit log of SecureCloud."


def admin_flask(admin: Administration, about: Callable[[], About]) -> OpenAPI:
    """Return a Flask application with the admin API; other blueprints may be added to it."""
    flask = OpenAPI(
        "securecloud_server",
        info=Info(title="SecureCloud admin API", version=__version__, description=_ABOUT),
        security_schemes=_SECURITY,
        validation_error_model=Problem,
        validation_error_callback=_refuse,
        doc_ui=False,
        static_folder=None,
    )
    flask.json = StrictJson(flask)
    flask.config["MAX_CONTENT_LENGTH"] = MAX_MESSAGE_BYTES
    flask.url_map.merge_slashes = False
    handle_errors(flask, audit_refusals(admin.refusals))
    for blueprint in _resources(admin, about):
        blueprint.before_request(authenticate(admin.api_tokens))
        blueprint.before_request(check_request)
        blueprint.after_request(_no_store)
        flask.register_api(blueprint)
    flask.add_url_rule(f"{BASE}/openapi.json", "openapi", lambda: _no_store(jsonify(flask.api_doc)))
    return flask


def _resources(admin: Administration, about: Callable[[], About]) -> list[APIBlueprint]:
    return [
        server(_resource("server"), about),
        policies(_resource("policies"), admin.policies),
        policy_impact(_resource("policy_impact"), admin.policy_replay),
        device_groups(_resource("device_groups"), admin.device_groups),
        devices(_resource("devices"), admin.devices),
        evidence(_resource("evidence"), admin.evidence),
        agents(_resource("agents"), admin.agents),
        enrollment_tokens(_resource("enrollment_tokens"), admin.enrollment_tokens),
        key_requests(_resource("key_requests"), admin.key_requests),
        keys(_resource("keys"), admin.keys),
        key_exports(_resource("key_exports"), admin.key_exports),
        tokens(_resource("tokens"), admin.api_tokens),
        audit(_resource("audit"), admin.audit, admin.fingerprint),
    ]


def _resource(name: str) -> APIBlueprint:
    return APIBlueprint(
        name, __name__, url_prefix=BASE, abp_security=[{"token": []}], abp_responses=PROBLEM
    )


def _refuse(error: ValidationError) -> NoReturn:
    raise invalid_request(error)


def _no_store(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response
