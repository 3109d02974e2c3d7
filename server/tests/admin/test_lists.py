"""Every list: pages that hold each item once, cursors that anyone may have bent."""

from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any

import pytest

from server.tests.admin.api import ADMINISTRATOR, BASE, EXPORT, Caller, fields
from server.tests.admin.conftest import Template
from server.tests.exchange.conftest import APPROVE, Clock

COUNT = 5
LISTS = {
    "/policies": "name",
    "/policies/many/versions": "version",
    "/device-groups": "name",
    "/devices": "name",
    "/devices/many/evidence": "audit_event",
    "/agents": "name",
    "/enrollment-tokens": "id",
    "/key-requests": "id",
    "/key-exports": "id",
    "/tokens": "id",
    "/audit-events": "seq",
}
NUMBERED = {"/policies/many/versions", "/devices/many/evidence", "/audit-events"}
NEWEST_FIRST = {
    *("/key-requests", "/key-exports", "/policies/many/versions", "/devices/many/evidence"),
}
CURSOR_EXPECTED = "next_cursor of the page before"


@pytest.fixture(scope="module")
def admin(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """A server with at least five of everything."""
    clock = Clock()
    with template.server(tmp_path_factory.mktemp("lists"), clock) as server:
        caller = Caller(server.http, template.tokens[ADMINISTRATOR])
        caller.put("/policies/asking", APPROVE)
        changing = server.machine("many")
        body = {"agent": "many", "policy": "asking", "volume": {"source": "/dev/vdb"}}
        caller.put("/devices/many", body)
        for number in range(COUNT):
            changing.facts["host_name"] = f"m{number}"
            changing.ask("many")
            caller.put("/policies/many", {"description": str(number)})
            caller.put(f"/policies/p{number}", {})
            caller.put(f"/device-groups/g{number}", {})
            caller.post("/enrollment-tokens", {"agent_name": f"a{number}"})
            machine = server.machine(f"m{number}")
            body = {"agent": f"m{number}", "volume": {"source": "/dev/vdb"}}
            caller.put(f"/devices/d{number}", body)
            machine.ask(f"d{number}")
            caller.post(f"/keys/d{number}:request-export", EXPORT)
            clock.forward(1)
        yield caller


def test_these_are_all_the_lists(admin: Caller) -> None:
    views = admin.http.application.url_map.iter_rules()
    listed = {r.rule.removeprefix(BASE) for r in views if ".list_" in r.endpoint}
    assert listed == {path.replace("/many/", "/<name>/") for path in LISTS}


@pytest.mark.parametrize("limit", [1, 2, 3, 500])
@pytest.mark.parametrize("path", LISTS)
def test_pages_hold_every_item_exactly_once(admin: Caller, path: str, limit: int) -> None:
    whole = admin.get(path)
    assert sorted(whole) == ["items", "next_cursor"]
    assert whole["next_cursor"] is None
    assert len(whole["items"]) >= COUNT
    found: list[Any] = []
    query = f"{path}?limit={limit}"
    while True:
        page = admin.get(query)
        assert 1 <= len(page["items"]) <= limit
        found += page["items"]
        assert len(found) <= len(whole["items"]), "the cursor does not move on"
        if page["next_cursor"] is None:
            break
        query = f"{path}?limit={limit}&cursor={page['next_cursor']}"
    assert found == whole["items"]
    keys = [item[LISTS[path]] for item in found]
    assert keys == sorted(set(keys), reverse=path in NEWEST_FIRST)


@pytest.mark.parametrize("path", LISTS)
def test_a_full_last_page_ends_the_list(admin: Caller, path: str) -> None:
    count = len(admin.get(path)["items"])
    assert admin.get(f"{path}?limit={count}")["next_cursor"] is None
    page = admin.get(f"{path}?limit={count - 1}")
    assert len(admin.get(f"{path}?cursor={page['next_cursor']}")["items"]) == 1


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("cursor", ["", "%00", "!", "a", "====", "/%2B..", "_w", "gA", "é", "AGE"])
def test_a_cursor_that_is_none_is_refused(admin: Caller, path: str, cursor: str) -> None:
    document = admin.refused("invalid_request", "GET", f"{path}?cursor={cursor}")
    assert fields(document) == ["" if cursor == "%00" else "cursor"]
    assert cursor == "%00" or document["errors"][0]["expected"] == CURSOR_EXPECTED


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("key", ["zzzz", "' OR 1=1 --", "%", "\n", "😀", "x" * 5000, "9" * 18])
def test_a_cursor_that_somebody_made_up_shows_nothing_that_is_not_in_the_list(
    admin: Caller, path: str, key: str
) -> None:
    cursor = urlsafe_b64encode(key.encode()).decode().rstrip("=")
    answer = admin.call("GET", f"{path}?cursor={cursor}")
    if path in NUMBERED and not key.isdecimal():
        assert fields(admin.refused("invalid_request", "GET", f"{path}?cursor={cursor}"))
    else:
        whole = admin.get(path)["items"]
        assert answer.status_code == 200
        assert all(item in whole for item in answer.json["items"])


@pytest.mark.parametrize("path", LISTS)
@pytest.mark.parametrize("limit", ["0", "501", "-1", "x", "", "1.5", "9" * 5000])
def test_a_limit_out_of_range_is_refused(admin: Caller, path: str, limit: str) -> None:
    document = admin.refused("invalid_request", "GET", f"{path}?limit={limit}")
    assert fields(document) == ["limit"]
    expected = document["errors"][0]["expected"]
    assert expected in {"an integer", "at least 1", "at most 500"}


@pytest.mark.parametrize("path", LISTS)
def test_a_mistyped_filter_is_refused(admin: Caller, path: str) -> None:
    document = admin.refused("invalid_request", "GET", f"{path}?nmae=x&limit=1")
    assert fields(document) == ["nmae"]
    document = admin.refused("invalid_request", "GET", f"{path}?limit=1&limit=2")
    assert fields(document) == ["limit"]


@pytest.mark.parametrize("path", ["/server", "/policies/default", "/audit-head", "/tokens/x"])
def test_what_is_no_list_takes_no_query(admin: Caller, path: str) -> None:
    document = admin.refused("invalid_request", "GET", f"{path}?limit=1")
    assert fields(document) == ["limit"]


def test_an_item_that_comes_or_goes_between_pages_disturbs_no_other(admin: Caller) -> None:
    names = [group["name"] for group in admin.items("/device-groups")]
    page = admin.get("/device-groups?limit=2")
    admin.put("/device-groups/g00", {})
    admin.delete(f"/device-groups/{names[1]}")
    rest = admin.get(f"/device-groups?cursor={page['next_cursor']}")
    assert [group["name"] for group in rest["items"]] == names[2:]
    admin.put(f"/device-groups/{names[1]}", {})
    admin.delete("/device-groups/g00")
