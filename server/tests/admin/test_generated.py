"""Requests that schemathesis makes up from the API's own description, good and bad ones."""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from server.tests.admin.api import ADMINISTRATOR, BASE, REASON, VOLUME, Caller
from server.tests.admin.conftest import Template
from server.tests.admin.test_roles import MATRIX
from server.tests.exchange.conftest import Clock

EXAMPLES = 15
JUDGED = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
EXISTING = {"name": "there", "device": "there"}
"""What the paths of the second round name."""


@pytest.fixture(scope="module")
def admin(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    with template.server(tmp_path_factory.mktemp("generated"), Clock()) as server:
        server.machine("there")
        yield Caller(server.http, template.tokens[ADMINISTRATOR])


@pytest.fixture(scope="module")
def schema(admin: Caller) -> Any:
    return schemathesis.openapi.from_wsgi(f"{BASE}/openapi.json", admin.http.application)


def furnish(admin: Caller) -> None:
    """Make sure that there is something behind the names in EXISTING."""
    admin.put("/policies/there", {})
    admin.put("/device-groups/there", {})
    if admin.get("/agents/there")["state"] == "active":
        admin.put("/devices/there", {"agent": "there", "volume": VOLUME})
        if admin.get("/keys/there")["state"] in {"pre_active", "active"}:
            admin.post("/keys/there:revoke", REASON)


def rounds() -> Iterator[tuple[str, GenerationMode, bool]]:
    """Return what is tried of each view: good and bad requests, on any name and on one that is."""
    for view in MATRIX:
        method, _, path = view.partition(" ")
        named = "<name>" in path or "<device>" in path
        read = method in {"PUT", "POST"} or "<" not in path or path.endswith("versions")
        for mode in (GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if read else [])):
            yield view, mode, False
            if named:
                yield view, mode, True


@pytest.mark.parametrize(("view", "mode", "existing"), list(rounds()))
def test_an_answer_is_as_described(
    admin: Caller, schema: Any, view: str, mode: GenerationMode, existing: bool
) -> None:
    method, _, path = view.partition(" ")
    path = BASE + path.replace("<", "{").replace(">", "}")
    operation = schema[path][method]
    options: dict[str, Any] = {}
    if existing:
        furnish(admin)
        known = {name: EXISTING[name] for name in EXISTING if f"{{{name}}}" in path}
        options = {"path_parameters": known}
    fixed = not (operation.body or operation.query or (operation.path_parameters and not existing))
    if fixed:
        mode = GenerationMode.POSITIVE
    seen: list[int] = []

    @settings(
        max_examples=1 if fixed else EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode, **options))
    def judge(case: Any) -> None:
        answer = case.call(headers={"Authorization": f"Bearer {admin.token}"})
        case.validate_response(answer, checks=JUDGED)
        seen.append(answer.status_code)

    judge()
    assert seen
