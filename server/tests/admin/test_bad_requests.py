"""Requests that are no good as HTTP or JSON: every refusal is a problem document."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from securecloud_protocol import MAX_MESSAGE_BYTES

from server.tests.admin.api import ADMINISTRATOR, VOLUME, Caller, fields, problem
from server.tests.admin.conftest import Template
from server.tests.exchange.conftest import Clock

JSON = "application/json"
PATH = "/policies/web"


@pytest.fixture(scope="module")
def admin(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """One server for all of these tests: they leave nothing behind."""
    with template.server(tmp_path_factory.mktemp("requests"), Clock()) as server:
        server.machine("web1")
        yield Caller(server.http, template.tokens[ADMINISTRATOR])


def send(admin: Caller, data: bytes, content_type: str | None = JSON) -> Any:
    return admin.call("PUT", PATH, data=data, content_type=content_type)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b" ",
        b"{",
        b"{}{}",
        b"{'rules': []}",
        b'{"rules": []',
        b'{"rules": [],}',
        b'{"a": 1, "a": 1}',
        b'{"rules": [{"fact": 1, "fact": 2}]}',
        b'{"x": NaN}',
        b'{"x": Infinity}',
        b'{"x": -Infinity}',
        b'{"x": 1e999}',
        b'{"x": -1e999}',
        b'{"x": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"x": "\xff"}',
        b"\xff\xfe{\x00}\x00",
        "{}".encode("utf-16"),
        "{}".encode("utf-32"),
        b"\xef\xbb\xbf{}",
        b'{"x": "\x00"}',
        b'{"x": "a\nb"}',
        b'{"x": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"x":' * 40_000,
        b"x" * 1000,
    ],
    ids=lambda data: repr(data[:24]),
)
def test_what_is_not_json_is_refused(admin: Caller, data: bytes) -> None:
    problem(send(admin, data), "malformed_json")
    admin.refused("not_found", "GET", PATH)


@pytest.mark.parametrize(("begin", "inner", "end"), [("[", "", "]"), ('{"all":', "1", "}")])
def test_deep_nesting_is_never_an_internal_error(
    admin: Caller, begin: str, inner: str, end: str
) -> None:
    codes = set()
    for depth in [2, 100, 300, *range(850, 1010)]:
        body = f'{{"rules":{begin * depth}{inner}{end * depth}}}'
        codes.add(send(admin, body.encode()).json["code"])
    assert codes == {"malformed_json", "invalid_request"}


def test_the_problem_says_where_the_text_is_wrong_but_shows_none_of_it(admin: Caller) -> None:
    document = problem(send(admin, b'{"description": "hunter2", }'), "malformed_json")
    assert "line 1 column" in document["detail"]
    assert "hunter2" not in str(document)


@pytest.mark.parametrize("data", [b"[]", b"null", b'"text"', b"1", b"true", b'"{}"'])
def test_a_body_that_is_no_object_is_refused(admin: Caller, data: bytes) -> None:
    document = problem(send(admin, data), "invalid_request")
    assert document["errors"][0]["expected"] == "a JSON object"
    admin.refused("not_found", "GET", PATH)


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonp",
        "nonsense",
    ],
)
def test_another_content_type_is_refused(admin: Caller, content_type: str | None) -> None:
    document = problem(send(admin, b"{}", content_type), "unsupported_media_type")
    assert "Content-Type: application/json" in document["detail"]
    admin.refused("not_found", "GET", PATH)


def test_the_content_type_may_name_its_character_set(admin: Caller) -> None:
    assert send(admin, b"{}", "application/json; charset=utf-8").status_code == 201
    admin.delete(PATH)


def test_the_largest_body_is_256_kib(admin: Caller) -> None:
    filler = b" " * (MAX_MESSAGE_BYTES - 2)
    assert send(admin, b"{" + filler + b"}").status_code == 201
    admin.delete(PATH)
    problem(send(admin, b"{ " + filler + b"}"), "too_large")
    problem(send(admin, b"x" * 5_000_000), "too_large")
    admin.refused("not_found", "GET", PATH)


def test_a_policy_is_at_most_64_kib(admin: Caller) -> None:
    rule = {"fact": "users", "operator": "includes_all", "value": ["x" * 1000] * 70}
    document = admin.refused("invalid_request", "PUT", PATH, {"rules": [rule]})
    assert document["detail"] == "the policy is too large"


@pytest.mark.parametrize("path", ["/devices/a%00b", "/devices?agent=%00", "/devices?%00=1"])
def test_nul_in_the_url_is_refused(admin: Caller, path: str) -> None:
    document = admin.refused("invalid_request", "GET", path)
    assert document["detail"] == "the URL holds a NUL character"


@pytest.mark.parametrize("octets", ["%FF", "%C3%28", "%ED%A0%80", "%F4%90%80%80"])
def test_a_url_that_is_not_utf_8_finds_nothing(admin: Caller, octets: str) -> None:
    admin.refused("not_found", "GET", f"/devices/{octets}")
    assert admin.get(f"/devices?agent={octets}")["items"] == []
    admin.refused("invalid_request", "PUT", f"/policies/{octets}", {})
    admin.refused("invalid_request", "GET", f"/devices?{octets}=1")


@pytest.mark.parametrize("name", ["x" * 8000, "%F0%9F%98%80" * 500, "%2e%2e", "' OR 1=1", "%25"])
def test_a_strange_name_finds_nothing(admin: Caller, name: str) -> None:
    for path in ("policies", "device-groups", "devices", "agents", "keys", "tokens"):
        assert len(admin.refused("not_found", "GET", f"/{path}/{name}")["detail"]) < 200


# Paths and methods


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/nothing",
        "/devices/",
        "//devices",
        "/devices/a/b",
        "/devices/a%2Fb",
        "/policies/a/versions/",
        "/keys",
        "/Devices",
        "/../v1/devices/a/b",
        "/audit-events/1",
    ],
)
def test_what_is_not_there_is_a_problem(admin: Caller, path: str) -> None:
    for method in ("GET", "PUT", "POST", "DELETE"):
        problem(admin.call(method, path), "not_found")


ALLOWED = {
    "/server": {"GET"},
    "/policies": {"GET"},
    "/policies/web": {"GET", "PUT", "DELETE"},
    "/policies/web/versions": {"GET"},
    "/device-groups": {"GET"},
    "/device-groups/shop": {"GET", "PUT", "DELETE"},
    "/devices": {"GET"},
    "/devices/data": {"GET", "PUT", "DELETE"},
    "/agents": {"GET"},
    "/agents/web1": {"GET", "DELETE"},
    "/enrollment-tokens": {"GET", "POST"},
    "/enrollment-tokens/x": {"GET", "DELETE"},
    "/key-requests": {"GET"},
    "/key-requests/x": {"GET"},
    "/keys/data": {"GET"},
    "/tokens": {"GET", "POST"},
    "/tokens/x": {"GET", "DELETE"},
    "/audit-events": {"GET"},
    "/audit-head": {"GET"},
    "/openapi.json": {"GET"},
}
METHODS = ("GET", "PUT", "POST", "DELETE", "PATCH", "TRACE", "BREW")


@pytest.mark.parametrize("path", ALLOWED)
def test_another_method_is_refused_with_those_there_are(admin: Caller, path: str) -> None:
    for method in METHODS:
        if method not in ALLOWED[path]:
            answer = admin.call(method, path)
            problem(answer, "method_not_allowed")
            allowed = set(answer.headers["Allow"].replace(" ", "").split(","))
            assert allowed - {"HEAD", "OPTIONS"} == ALLOWED[path]


def test_head_is_get_without_its_body(admin: Caller) -> None:
    answer = admin.call("HEAD", "/policies/default")
    assert (answer.status_code, answer.data) == (200, b"")
    assert answer.headers["ETag"] == admin.call("GET", "/policies/default").headers["ETag"]


def test_a_body_that_a_method_does_not_take_is_not_read(admin: Caller) -> None:
    admin.put(PATH, {})
    assert admin.call("GET", PATH, data=b"{", content_type=JSON).status_code == 200
    assert admin.call("DELETE", PATH, data=b"{", content_type=JSON).status_code == 204


def test_escapes_in_json_are_read_once(admin: Caller) -> None:
    data = json.dumps({"agent": "web1", "volume": {**VOLUME, "source": "/dev/\\u0041 é 😀"}})
    answer = admin.call("PUT", "/devices/data", data=data, content_type=JSON)
    assert answer.json["volume"]["source"] == "/dev/\\u0041 é 😀"
    assert admin.get("/devices/data")["volume"]["source"] == "/dev/\\u0041 é 😀"


def test_a_duplicate_header_does_not_help(admin: Caller) -> None:
    document = admin.having(if_none_match='"a"').refused("invalid_request", "DELETE", PATH)
    assert fields(document) == ["If-None-Match"]
