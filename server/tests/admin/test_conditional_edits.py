"""Entity tags: If-Match and If-None-Match (RFC 9110, section 13.1)."""

import re
from typing import Any

import pytest

from server.tests.admin.api import VOLUME, Caller, fields, problem

STRONG = re.compile(r'"[\x21\x23-\x7e]+"')
DEVICE = {"agent": "web1", "volume": VOLUME}
EDITS: dict[str, tuple[Any, Any]] = {
    "/policies/web": ({}, {"description": "Changed"}),
    "/device-groups/shop": ({}, {"description": "Changed"}),
    "/devices/data": (DEVICE, {**DEVICE, "enabled": False}),
}


@pytest.fixture(autouse=True)
def _enrolled(machine: Any) -> None:
    """Devices need the machine web1."""


@pytest.mark.parametrize("path", EDITS)
def test_a_put_creates_then_replaces_and_moves_the_tag(admin: Caller, path: str) -> None:
    text, changed = EDITS[path]
    created = admin.call("PUT", path, text)
    unchanged = admin.call("PUT", path, text)
    replaced = admin.call("PUT", path, changed)
    assert [a.status_code for a in (created, unchanged, replaced)] == [201, 200, 200]
    tags = [a.headers["ETag"] for a in (created, unchanged, replaced)]
    assert tags[0] == tags[1] != tags[2]
    assert all(STRONG.fullmatch(tag) for tag in tags)
    assert admin.call("GET", path).headers["ETag"] == tags[2]
    assert admin.call("HEAD", path).headers["ETag"] == tags[2]


@pytest.mark.parametrize("path", EDITS)
def test_an_edit_of_what_somebody_else_changed_is_refused(admin: Caller, path: str) -> None:
    text, changed = EDITS[path]
    old = admin.call("PUT", path, text).headers["ETag"]
    new = admin.call("PUT", path, changed).headers["ETag"]
    before, events = admin.get(path), admin.actions()
    late = admin.having(if_match=old)
    for method, body in (("PUT", text), ("PUT", changed), ("DELETE", None)):
        late.refused("precondition_failed", method, path, body)
    assert admin.get(path) == before
    assert admin.actions() == events
    for header in (new, f'"other", {new}', "*"):
        admin.having(if_match=header).put(path, changed)
    admin.having(if_match=new).delete(path)


@pytest.mark.parametrize("path", EDITS)
@pytest.mark.parametrize("header", ['W/"1"', "", '""', "nonsense", '"' + "x" * 4000 + '"'])
def test_a_tag_that_no_object_has_never_holds(admin: Caller, path: str, header: str) -> None:
    text, changed = EDITS[path]
    admin.put(path, text)
    caller = admin.having(if_match=header)
    caller.refused("precondition_failed", "PUT", path, changed)
    caller.refused("precondition_failed", "DELETE", path)


@pytest.mark.parametrize("path", EDITS)
def test_a_weak_tag_does_not_match_for_edits(admin: Caller, path: str) -> None:
    tag = admin.call("PUT", path, EDITS[path][0]).headers["ETag"]
    admin.having(if_match=f"W/{tag}").refused("precondition_failed", "DELETE", path)


@pytest.mark.parametrize("path", EDITS)
def test_create_only_and_replace_only(admin: Caller, path: str) -> None:
    text, changed = EDITS[path]
    create, replace = admin.having(if_none_match="*"), admin.having(if_match="*")
    replace.refused("precondition_failed", "PUT", path, text)
    admin.refused("not_found", "GET", path)
    assert create.call("PUT", path, text).status_code == 201
    create.refused("precondition_failed", "PUT", path, changed)
    create.refused("precondition_failed", "PUT", path, text)
    assert replace.call("PUT", path, changed).status_code == 200


@pytest.mark.parametrize("path", EDITS)
def test_if_none_match_with_a_tag_is_for_reading(admin: Caller, path: str) -> None:
    tag = admin.call("PUT", path, EDITS[path][0]).headers["ETag"]
    caller = admin.having(if_none_match=tag)
    document = caller.refused("invalid_request", "PUT", path, EDITS[path][1])
    assert fields(document) == ["If-None-Match"]


@pytest.mark.parametrize("path", ["/policies/web", "/device-groups/shop"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_reader_who_has_it_is_told_so(admin: Caller, path: str, method: str) -> None:
    text, changed = EDITS[path]
    tag = admin.call("PUT", path, text).headers["ETag"]
    for header in (tag, f"W/{tag}", f'"a", {tag}', "*"):
        answer = admin.having(if_none_match=header).call(method, path)
        assert (answer.status_code, answer.data) == (304, b"")
        assert answer.headers["ETag"] == tag
    admin.put(path, changed)
    assert admin.having(if_none_match=tag).call(method, path).status_code == 200


def test_tokens_and_agents_are_deleted_as_believed(admin: Caller) -> None:
    api = admin.call("POST", "/tokens", {"name": "deploy", "role": "auditor"})
    enrolment = admin.call("POST", "/enrollment-tokens", {"agent_name": "db1"})
    for path in (
        f"/tokens/{api.json['id']}",
        f"/enrollment-tokens/{enrolment.json['id']}",
        "/agents/web1",
    ):
        read = admin.call("GET", path)
        tag = read.headers["ETag"]
        admin.having(if_match='"other"').refused("precondition_failed", "DELETE", path)
        assert admin.call("GET", path).json == read.json
        admin.having(if_match=tag).delete(path)
        admin.having(if_match=tag).refused("precondition_failed", "DELETE", path)
    assert STRONG.fullmatch(api.headers["ETag"])


def test_a_secret_is_never_answered_with_not_modified(admin: Caller) -> None:
    first = admin.call("POST", "/tokens", {"name": "a", "role": "auditor"})
    answer = admin.having(if_none_match="*").call(
        "POST", "/tokens", {"name": "b", "role": "auditor"}
    )
    assert answer.status_code == 201
    assert answer.headers["ETag"] != first.headers["ETag"]


def test_the_precondition_is_looked_at_before_the_references(admin: Caller) -> None:
    body = {**DEVICE, "group": "none"}
    answer = admin.having(if_match='"x"').call("PUT", "/devices/data", body)
    problem(answer, "precondition_failed")
