"""The API's own description: valid, complete, and true."""

import importlib
import pkgutil
import re
from typing import Any

import pytest
import securecloud_server.web.admin as admin_package
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import BaseModel
from securecloud_server.web.admin.models import Query
from securecloud_server.web.problems import MEDIA_TYPE

from server.tests.admin.api import Caller
from server.tests.admin.test_roles import MATRIX

CREATED = {"PUT": {"200", "201"}, "POST": {"200"}, "DELETE": {"204"}, "GET": {"200"}}
OCTETS = {"GET /devices/{name}/header"}
MINTED = {"/tokens", "/enrollment-tokens"}


@pytest.fixture
def document(admin: Caller) -> Any:
    return Caller(admin.http, None).get("/openapi.json")


def operations(document: Any) -> dict[str, Any]:
    return {
        f"{method.upper()} {path.removeprefix('/api/v1')}": operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def test_it_is_valid_openapi_3_1(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    errors = OpenAPIV31SpecValidator(document).iter_errors()
    assert [error.message for error in errors] == []


def test_it_holds_every_view(document: Any) -> None:
    views = {re.sub("<([a-z]+)>", r"{\1}", view) for view in MATRIX}
    assert operations(document).keys() == views


def test_every_view_has_its_success_and_its_problems(document: Any) -> None:
    for name, operation in operations(document).items():
        method, _, path = name.partition(" ")
        expected = {"201"} if method == "POST" and path in MINTED else CREATED[method]
        responses = operation["responses"]
        assert responses.keys() == expected | {"4XX", "422", "5XX"}, name
        for status in ("4XX", "422", "5XX"):
            content = responses[status]["content"]
            assert content == {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        for status in expected - {"204"}:
            kind = "application/octet-stream" if name in OCTETS else "application/json"
            assert kind in responses[status]["content"], name
        assert "content" not in responses.get("204", {}), name
        assert operation["security"] == [{"token": []}]
        assert operation["summary"]


def test_every_body_is_closed_and_every_path_parameter_described(document: Any) -> None:
    schemas = document["components"]["schemas"]
    for name, operation in operations(document).items():
        takes_body = name.startswith(("PUT", "POST"))
        assert ("requestBody" in operation) is takes_body, name
        if takes_body:
            body = operation["requestBody"]
            assert body["required"] is True
            assert list(body["content"]) == ["application/json"]
            reference = body["content"]["application/json"]["schema"]["$ref"]
            assert schemas[reference.rpartition("/")[2]]["additionalProperties"] is False
        declared = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
        assert declared == set(re.findall("{([a-z]+)}", name)), name


def test_operations_have_names_of_their_own(document: Any) -> None:
    names = [operation["operationId"] for operation in operations(document).values()]
    assert len(names) == len(set(names))


def test_only_new_tokens_show_their_text(document: Any) -> None:
    holders = {
        name
        for name, schema in document["components"]["schemas"].items()
        if "token" in schema.get("properties", {})
    }
    assert holders == {"NewToken", "NewEnrollmentToken"}


def test_no_two_models_share_a_name() -> None:
    """The description knows them by name alone: one would hide the other."""
    models = [
        name
        for module in pkgutil.iter_modules(admin_package.__path__, f"{admin_package.__name__}.")
        for name, value in vars(importlib.import_module(module.name)).items()
        if isinstance(value, type)
        and issubclass(value, BaseModel)
        and value.__module__ == module.name
        and not issubclass(value, Query)
    ]
    assert sorted(models) == sorted(set(models))
