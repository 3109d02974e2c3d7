"""Who may do what: every view with every role, and with every kind of bad token."""

import base64
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from securecloud_server.domain.privileges import ROLES

from server.tests.admin.api import ADMINISTRATOR, BASE, EXPORT, REASON, VOLUME, Caller, problem
from server.tests.admin.conftest import Template
from server.tests.exchange.conftest import Clock

EVERYONE = frozenset(ROLES)
READERS = EVERYONE - {"data_analyst"}
EDITORS = frozenset({"account_administrator", "security_administrator"})
APPROVERS = EDITORS | {"key_approver"}
AUDITORS = EDITORS | {"auditor", "data_analyst"}
TOKEN_READERS = frozenset({"account_administrator", "auditor"})
ACCOUNTS = frozenset({"account_administrator"})

DEVICE = {"agent": "web1", "volume": VOLUME}
MATRIX: dict[str, tuple[frozenset[str], Any]] = {
    "GET /server": (EVERYONE, None),
    "GET /policies": (READERS, None),
    "GET /policies/<name>": (READERS, None),
    "GET /policies/<name>/versions": (READERS, None),
    "POST /policies/<name>:evaluate": (READERS, {}),
    "PUT /policies/<name>": (EDITORS, {}),
    "DELETE /policies/<name>": (EDITORS, None),
    "GET /device-groups": (READERS, None),
    "GET /device-groups/<name>": (READERS, None),
    "PUT /device-groups/<name>": (EDITORS, {}),
    "DELETE /device-groups/<name>": (EDITORS, None),
    "GET /devices": (READERS, None),
    "GET /devices/<name>": (READERS, None),
    "GET /devices/<name>/evidence": (READERS, None),
    "GET /devices/<name>/header": (EDITORS, None),
    "PUT /devices/<name>": (EDITORS, DEVICE),
    "DELETE /devices/<name>": (EDITORS, None),
    "POST /devices/<name>:clear-quarantine": (EDITORS, REASON),
    "POST /devices/<name>:accept-header": (EDITORS, {**REASON, "digest": "0" * 64}),
    "GET /agents": (READERS, None),
    "GET /agents/<name>": (READERS, None),
    "DELETE /agents/<name>": (EDITORS, None),
    "POST /agents/<name>:check": (EDITORS, {}),
    "GET /enrollment-tokens": (READERS, None),
    "POST /enrollment-tokens": (EDITORS, {"agent_name": "new"}),
    "GET /enrollment-tokens/<id>": (READERS, None),
    "DELETE /enrollment-tokens/<id>": (EDITORS, None),
    "GET /key-requests": (READERS, None),
    "GET /key-requests/<id>": (READERS, None),
    "POST /key-requests/<id>:approve": (APPROVERS, REASON),
    "POST /key-requests/<id>:deny": (APPROVERS, REASON),
    "GET /keys/<device>": (READERS, None),
    "POST /keys/<device>:revoke": (EDITORS, REASON),
    "POST /keys/<device>:restore": (EDITORS, REASON),
    "POST /keys/<device>:destroy": (EDITORS, REASON),
    "POST /keys/<device>:rotate": (EDITORS, REASON),
    "POST /keys/<device>:cancel-rotation": (EDITORS, REASON),
    "POST /keys/<device>:request-export": (EDITORS, EXPORT),
    "GET /key-exports": (READERS, None),
    "GET /key-exports/<id>": (READERS, None),
    "POST /key-exports/<id>:grant": (EDITORS, REASON),
    "POST /key-exports/<id>:deny": (EDITORS, REASON),
    "POST /key-exports/<id>:collect": (EDITORS, {}),
    "GET /tokens": (TOKEN_READERS, None),
    "POST /tokens": (ACCOUNTS, {"name": "new", "role": "auditor"}),
    "GET /tokens/<id>": (TOKEN_READERS, None),
    "DELETE /tokens/<id>": (ACCOUNTS, None),
    "GET /audit-events": (AUDITORS, None),
    "GET /audit-head": (AUDITORS, None),
}
"""What each role may call. Written down here once more, so that a slip in the table of privileges
shows."""

OPEN = {"GET /api/v1/openapi.json", "GET /healthz", "GET /readyz", "GET /metrics"}
"""Views that need no API token, or guard themselves."""


@pytest.fixture(scope="module")
def crowd(
    template: Template, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str | None], Caller]]:
    """What makes a caller of a role, of none, or with a token whose time is over.

    One server for all of these tests.
    """
    clock = Clock()
    with template.server(tmp_path_factory.mktemp("roles"), clock) as server:
        server.machine("web1")
        admin = Caller(server.http, template.tokens[ADMINISTRATOR])
        body = {"name": "short", "role": ADMINISTRATOR, "expires_in": 60}
        tokens = {**template.tokens, "expired": admin.post("/tokens", body)["token"]}
        clock.forward(60)
        revoked = admin.post("/tokens", body)
        admin.delete(f"/tokens/{revoked['id']}")
        tokens["revoked"] = revoked["token"]
        yield lambda role: Caller(server.http, tokens[role] if role else None)


def path(rule: Any) -> str:
    """Return the path of a view, its variables as in `/keys/<device>`."""
    return str(rule.rule).replace("<string:", "<")


def views(caller: Caller) -> set[str]:
    rules = caller.http.application.url_map.iter_rules()
    return {f"{m} {path(rule)}" for rule in rules for m in rule.methods - {"HEAD", "OPTIONS"}}


def example(view: str) -> tuple[str, str, Any]:
    """Return a call of a view: of a thing that does not exist, where the path names one."""
    method, _, there = view.partition(" ")
    for part in ("<name>", "<id>", "<device>"):
        there = there.replace(part, "example")
    return method, there, MATRIX[view][1]


def test_the_matrix_holds_every_view(crowd: Any) -> None:
    listed = {view.replace(" ", f" {BASE}") for view in MATRIX}
    assert views(crowd(None)) - OPEN == listed


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("view", MATRIX)
def test_a_role_may_call_what_it_is_granted_and_nothing_else(
    crowd: Any, view: str, role: str
) -> None:
    answer = crowd(role).call(*example(view))
    if role in MATRIX[view][0]:
        assert answer.status_code in {200, 201, 204, 404}, answer.text
    else:
        document = problem(answer, "not_authorized")
        assert document["detail"].startswith(f"the role {role} does not include ")


BAD = {
    "no header": None,
    "empty": "",
    "no token": "Bearer",
    "blank": "Bearer   ",
    "another scheme": "Basic " + base64.b64encode(b"admin:admin").decode(),
    "not a token": "Bearer password",
    "a short secret": "Bearer sct.0123456789ab.short",
    "unknown id": "Bearer sct.0123456789ab." + "A" * 43,
    "long": "Bearer " + "A" * 20000,
    "two tokens": "Bearer sct.0123456789ab." + "A" * 43 + ", Bearer x",
    "not ASCII": "Bearer sct.0123456789ab.Ä" + "A" * 42,
    "no canonical base64": "Bearer sct.0123456789ab." + "A" * 42 + "B",
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("view", MATRIX)
def test_without_a_good_token_nobody_gets_anywhere(crowd: Any, view: str, kind: str) -> None:
    header = BAD[kind]
    caller = crowd(None) if header is None else crowd(None).having(authorization=header)
    answer = caller.call(*example(view))
    problem(answer, "not_authenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize("kind", ["expired", "revoked"])
@pytest.mark.parametrize("view", MATRIX)
def test_a_token_whose_time_is_over_gets_nobody_anywhere(crowd: Any, view: str, kind: str) -> None:
    answer = crowd(kind).call(*example(view))
    problem(answer, "not_authenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_a_refusal_does_not_say_why(admin: Caller, clock: Any) -> None:
    body = {"name": "a", "role": "auditor"}
    expired = admin.post("/tokens", {**body, "expires_in": 60})["token"]
    clock.forward(60)
    revoked = admin.post("/tokens", {**body, "name": "b"})
    admin.delete(f"/tokens/{revoked['id']}")
    good = admin.post("/tokens", {**body, "name": "c"})["token"]
    last = "A" if good[-1] != "A" else "E"
    tokens = [expired, revoked["token"], "sct.0123456789ab." + "A" * 43, good[:-1] + last, "x"]
    answers = [
        Caller(admin.http, token).refused("not_authenticated", "GET", "/server") for token in tokens
    ]
    assert answers == [answers[0]] * len(tokens)


def test_the_scheme_is_read_without_regard_to_case(admin: Caller) -> None:
    token = admin.token
    Caller(admin.http, None).having(authorization=f"bearer {token}").get("/server")


def test_a_deletion_that_was_refused_deleted_nothing(
    as_role: Callable[[str], Caller], admin: Caller
) -> None:
    admin.put("/policies/web", {})
    for role in EVERYONE - EDITORS:
        as_role(role).refused("not_authorized", "DELETE", "/policies/web")
        as_role(role).refused("not_authorized", "PUT", "/policies/web", {"force": True})
    assert admin.get("/policies/web")["version"] == 1


def test_what_the_matrix_leaves_out_is_open_to_all(crowd: Any) -> None:
    stranger = crowd(None)
    assert stranger.get("/openapi.json")["openapi"] == "3.1.0"
    assert stranger.http.get("/healthz").status_code == 200


# Refusals in the audit log


def refusals(admin: Caller) -> list[Any]:
    return [event for event in admin.items("/audit-events") if event["outcome"] == "refused"]


def test_a_refused_caller_is_audited(admin: Caller, as_role: Callable[[str], Caller]) -> None:
    as_role("auditor").refused("not_authorized", "DELETE", "/policies/web")
    event = refusals(admin)[0]
    assert (event["actor"], event["role"], event["source"]) == (
        "token:auditor",
        "auditor",
        "192.0.2.7",
    )
    assert (event["action"], event["object"]) == (
        "access.unauthorized",
        "DELETE /api/v1/policies/web",
    )
    assert event["reason"] == "the role auditor does not include configuration.edit"


def test_a_stranger_is_audited_once_a_minute_with_the_count(admin: Caller, clock: Any) -> None:
    stranger = Caller(admin.http, "sct.0123456789ab." + "A" * 43, source="198.51.100.9")
    for _ in range(4):
        stranger.refused("not_authenticated", "GET", "/policies")
    first = refusals(admin)
    assert [event["action"] for event in first] == ["access.unauthenticated"]
    assert (first[0]["actor"], first[0]["source"]) == ("anonymous:unknown", "198.51.100.9")
    assert first[0]["details"] == {}
    clock.forward(59)
    stranger.refused("not_authenticated", "GET", "/policies")
    assert len(refusals(admin)) == 1
    clock.forward(1)
    stranger.refused("not_authenticated", "GET", "/keys/web1")
    second = refusals(admin)[1:]
    assert [event["details"] for event in second] == [{"similar_not_logged": 4}]
    assert second[0]["object"] == "GET /api/v1/keys/web1"


def test_each_source_is_audited_by_itself(admin: Caller) -> None:
    for number in range(3):
        stranger = Caller(admin.http, None, source=f"198.51.100.{number}")
        stranger.refused("not_authenticated", "GET", "/policies")
    assert [event["source"] for event in refusals(admin)] == [
        f"198.51.100.{number}" for number in range(3)
    ]


@pytest.mark.parametrize("path", ["/keys/a%00b", "/keys/%0a%1b[31m", "/keys/" + "x" * 5000])
def test_a_hostile_path_is_audited_in_a_form_that_every_database_keeps(
    admin: Caller, path: str
) -> None:
    Caller(admin.http, None).refused("not_authenticated", "GET", path)
    event = refusals(admin)[0]
    assert event["object"].isprintable()
    assert event["object"].startswith("GET /api/v1/keys/")
    assert len(event["object"]) <= 200


def test_a_token_s_name_stays_when_it_is_gone(admin: Caller, as_role: Any) -> None:
    created = admin.post("/tokens", {"name": "deploy", "role": ADMINISTRATOR})
    Caller(admin.http, created["token"]).put("/policies/web", {})
    admin.delete(f"/tokens/{created['id']}")
    assert admin.items("/audit-events?actor=token:deploy")[0]["object"] == "policy:web"
