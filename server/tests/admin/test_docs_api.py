"""docs/api.md is true: its tables are the code's, its examples work."""

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from securecloud_server.domain.privileges import ROLES, Privilege
from securecloud_server.services.policy_impact import Effect
from securecloud_server.web.problems import STATUS

from server.tests.admin.api import BASE, Caller, problem
from server.tests.admin.test_roles import MATRIX
from server.tests.exchange.conftest import HOST_RULE

TEXT = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")


def table(name: str) -> list[list[str]]:
    """Return the cells of a marked table, its headline first, without backticks."""
    match = re.search(f"<!-- {name}: .*? -->\n(.*?)<!-- end of {name} -->", TEXT, re.DOTALL)
    assert match, name
    lines = [line for line in match[1].splitlines() if not line.startswith("|--")]
    return [[cell.strip().replace("`", "") for cell in line.split("|")[1:-1]] for line in lines]


def test_the_table_of_roles_is_the_table_of_privileges() -> None:
    head, *rows = table("roles")
    assert head == ["privilege", *ROLES]
    granted = {
        role: {row[0] for row in rows if row[column] == "yes"}
        for column, role in enumerate(ROLES, start=1)
    }
    assert granted == {role: set(privileges) for role, privileges in ROLES.items()}
    assert [row[0] for row in rows] == list(Privilege)


def test_the_table_of_resources_holds_every_view_with_its_privilege() -> None:
    documented = {f"{row[0]} {row[1]}": row[2] for row in table("resources")[1:]}
    views = {view.replace("<", "{").replace(">", "}"): MATRIX[view][0] for view in MATRIX}
    assert documented.keys() == views.keys()
    everyone = frozenset(ROLES)
    for view, privilege in documented.items():
        holders = {role for role in ROLES if privilege in ROLES[role]}
        assert views[view] == (everyone if privilege == "any" else holders), view


def test_the_privilege_in_the_table_is_the_one_that_is_asked_for(as_role: Any) -> None:
    refused = 0
    for method, path, privilege, _ in table("resources")[1:]:
        for role in ROLES:
            if privilege != "any" and privilege not in ROLES[role]:
                body = MATRIX[f"{method} {path}".replace("{", "<").replace("}", ">")][1]
                answer = as_role(role).call(method, re.sub("{.*?}", "x", path), body)
                detail = problem(answer, "not_authorized")["detail"]
                assert detail == f"the role {role} does not include {privilege}"
                refused += 1
    assert refused > len(MATRIX)


def test_the_table_of_codes_is_complete() -> None:
    documented = {row[0]: int(row[1]) for row in table("codes")[1:]}
    assert documented == {code: status.value for code, (status, _) in STATUS.items()}


def calls() -> list[list[str]]:
    """Return the words of every call in the examples."""
    blocks = re.findall("^```sh\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    text = "\n".join(block for block in blocks if "api()" not in block)
    lines = re.findall(r"^api .*?(?=^api |\Z)", text, re.MULTILINE | re.DOTALL)
    return [shlex.split(line.replace("\\\n", " "))[1:] for line in lines]


def replay(admin: Caller, words: list[str], request_id: str) -> Any:
    """Make the call as curl would; the example's request becomes `request_id`."""
    options = {"--request": "GET", "--data": "null", "--header": ""}
    url = ""
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        if word in options:
            options[word] = waiting.pop(0)
        else:
            url = word
    name, _, value = options["--header"].partition(": ")
    caller = admin.having(**{name: value}) if name else admin
    path = re.sub("[0-9a-f-]{36}", request_id, url.removeprefix("$API"))
    return caller.ok(options["--request"], path, json.loads(options["--data"]))


LOGS = {"source": "/dev/disk/by-id/virtio-logs", "mount_point": "/srv/logs"}


def test_the_effects_are_explained() -> None:
    table = TEXT.partition("`effect` is one of")[2].partition("`before` and")[0]
    explained = re.findall(r"^\| `([a-z_]+)` \| [a-z]", table, re.MULTILINE)[1:]
    assert sorted(explained) == sorted(Effect)


def test_the_examples_work(machine: Any, admin: Caller) -> None:
    register, find, approve, check, agent, judged, evaluate, events, head = calls()
    assert replay(admin, register, "")["key"] == {"state": "pre_active", "version": 1}
    machine.ask("web1-data")
    request = replay(admin, find, "")["items"][0]
    assert replay(admin, approve, request["id"])["state"] == "approved"
    assert replay(admin, check, "")["check_answered_at"] is None
    machine.ask("web1-data")
    assert replay(admin, agent, "")["check_answered_at"]
    assert replay(admin, judged, "")["items"][0]["outcome"] == "granted"
    admin.put("/policies/web", {"rules": [HOST_RULE]})
    admin.put("/devices/web1-logs", {"agent": "web1", "policy": "web", "volume": LOGS})
    machine.ask("web1-logs")
    (impact,) = replay(admin, evaluate, "")["devices"]
    assert (impact["effect"], impact["after"]["outcome"]) == ("changed", "denied")
    assert (impact["rules"][0]["value"], impact["evidence"]["age"]) == ("web1", 0)
    found = replay(admin, events, "")["items"]
    assert {event["object"] for event in found} == {"device:web1-data"}
    assert "key_request.approved" in {event["action"] for event in found}
    assert replay(admin, head, "")["size"] > len(found)


def test_the_example_of_an_error_is_what_the_server_says(admin: Caller) -> None:
    example = re.search("^```json\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert example
    answer = admin.call("PUT", "/device-groups/shop", {"policy": "none"})
    assert json.loads(example[1]) == answer.json
    assert BASE in TEXT


@pytest.mark.parametrize("path", re.findall(r"\]\(([^)]+)\)", TEXT))
def test_links_lead_somewhere(path: str) -> None:
    assert (Path(__file__).parents[3] / "docs" / path).exists()
