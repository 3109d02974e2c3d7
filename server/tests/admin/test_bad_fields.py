"""Bad input at every field of every body: the problem names the field, and nothing is stored."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from server.tests.admin.api import ADMINISTRATOR, EXPORT, ISCSI, RECIPIENT, VOLUME, Caller, fields
from server.tests.admin.conftest import Template
from server.tests.exchange.conftest import Clock

ABSENT = object()
NAME_EXPECTED = "1 to 63 of a-z, 0-9, '.', '_', '-', with a letter or digit at both ends"
BAD_NAMES = ["", "-a", "a-", "A", "a b", "ä", "a\u0000", "x" * 64, ".", "a/b", "a\n", "٣"]
NO_STRINGS = [None, 7, True, ["x"], {"x": 1}, 1.5]
NO_LINES = ["a\nb", "a\u0000b", "a\x1b[31m", "a\u2028b", "a\x85b", "a\u202eb"]
RULE = {"fact": "host_name", "operator": "equals", "value": "web1"}


class Form(NamedTuple):
    """A body that is accepted."""

    method: str
    path: str
    body: dict[str, Any]


DEVICE = Form("PUT", "/devices/new", {"agent": "web1", "volume": VOLUME})
REMOTE = Form("PUT", "/devices/new", {"agent": "web1", "volume": {"iscsi": ISCSI}})
BAD_PORTALS = [
    *("", "10.0.0.5:", "10.0.0.5:0", "10.0.0.5:65536", "10.0.0.5:03260", "10.0.0.5:3260:3260"),
    *("10.0.0", "10.0.0.05", "10.0.0.256", "0.0.0.0", "224.0.0.1", "10.0.0.5\n", "10.0.0.5 "),
    *("2001:db8::5", "[2001:db8::5", "[2001:DB8::5]", "[2001:db8:0::5]", "[::]:3260", "[::1]x"),
    *("[fe80::1%eth0]:3260", "[::ffff:10.0.0.5]", "[::ffff:a00:5]", "san.example.org:3260"),
    *("--help", "../x:3260", "٣.0.0.1:3260", "10.0.0.5:٣"),
]
BAD_TARGETS = [
    *("", ".", "..", "iqn", "iqn.", "iqn.2026-01.", "iqn.2026-13.org.example:x", "disk1"),
    *("iqn.2026-01.org.example:a/b", "iqn.2026-01.org.example:a b", "iqn.2026-01.-x", "-T"),
    *(
        "iqn.2026-01.org.example:ä",
        "iqn.2026-01.org.example:x\n",
        "eui.0123",
        "naa.0123456789abcde",
    ),
    *("eui.0123456789abcdeg", "../../etc", "iqn.2026-01.org.example:" + "x" * 200),
]
GROUP = Form("PUT", "/device-groups/new", {})
POLICY = Form("PUT", "/policies/new", {"rules": [RULE]})
OFFLINE = Form(
    "PUT",
    "/policies/new",
    {"rules": [RULE], "on_match": {"action": "approve"}, "offline": {"period": 60}},
)
GRACEFUL = Form("PUT", "/policies/new", {"grace": {"period": 60}})
TOKEN = Form("POST", "/tokens", {"name": "new", "role": "auditor"})
ENROLMENT = Form("POST", "/enrollment-tokens", {"agent_name": "new"})
ASKING = Form("POST", "/keys/there:request-export", EXPORT)
BAD_RECIPIENTS = [
    *("", " ", "age1", "none", RECIPIENT[:-1], f"{RECIPIENT} ", f"{RECIPIENT}\n", f" {RECIPIENT}"),
    *(RECIPIENT.replace("q", "b"), RECIPIENT + "\u0000", "x" * 5000, "AGE-SECRET-KEY-1" + "Q" * 58),
    *("ssh-ed25519 AAAA", f"{RECIPIENT},{RECIPIENT}", "age1" + "ä" * 58),
]
DECISIONS = [
    ASKING,
    *(
        Form("POST", f"/{path}", {"reason": "because"})
        for path in (
            "devices/there:clear-quarantine",
            "key-requests/none:approve",
            "key-requests/none:deny",
            "keys/there:revoke",
            "keys/there:restore",
            "keys/there:destroy",
            "keys/there:rotate",
            "keys/there:cancel-rotation",
            "key-exports/none:grant",
            "key-exports/none:deny",
        )
    ),
]

ACCEPTANCE = Form("POST", "/devices/there:accept-header", {"reason": "because", "digest": "0" * 64})

CASES: dict[str, tuple[Form, str, list[Any], str]] = {
    "accepted header type": (ACCEPTANCE, "digest", [*NO_STRINGS], "a string"),
    "accepted header": (
        ACCEPTANCE,
        "digest",
        ["", "0" * 63, "0" * 65, "A" * 64, "g" * 64, "0" * 64 + "\n", "٣" * 64],
        "64 hexadecimal digits in lower case",
    ),
    "device agent type": (DEVICE, "agent", [*NO_STRINGS], "a string"),
    "device agent": (DEVICE, "agent", ["", "none", "WEB1", "web1\u0000"], "enrolled agent"),
    "device agent absent": (DEVICE, "agent", [ABSENT], "a value"),
    "device group type": (DEVICE, "group", NO_STRINGS[1:], "a string"),
    "device group": (DEVICE, "group", ["", "none", "a\u0000"], "a device group, or null"),
    "device policy type": (DEVICE, "policy", NO_STRINGS[1:], "a string"),
    "device policy": (DEVICE, "policy", ["", "none", "a\u0000"], "a policy, or null"),
    "device enabled": (DEVICE, "enabled", [None, "yes", 1, 0, [], {}], "true or false"),
    "device volume": (DEVICE, "volume", [None, "x", 1, [], True], "an object"),
    "device volume absent": (DEVICE, "volume", [ABSENT], "a value"),
    "volume source type": (DEVICE, "volume.source", NO_STRINGS[1:], "a string"),
    "volume source absent": (DEVICE, "volume.source", [ABSENT, None], "iscsi in its place"),
    "volume source": (
        DEVICE,
        "volume.source",
        ["", "/", "dev/a", "/a/../b", "/..", "/a\u0000", "/a\nb", "/" + "x" * 2000, "~/x"],
        "a clean absolute path (no '..', no '//', no '/' at its end)",
    ),
    "volume filesystem": (
        DEVICE,
        "volume.filesystem",
        [None, "", "btrfs", "EXT4", 4, ["ext4"], {}],
        "'ext4' or 'xfs'",
    ),
    "volume iscsi": (REMOTE, "volume.iscsi", ["x", 1, [], True], "an object"),
    "volume source beside iscsi": (
        REMOTE,
        "volume.source",
        ["/dev/vdb", "/dev/disk/by-path/ip-10.0.0.5:3260-iscsi-iqn.2026-01.org.example:db-lun-0"],
        "no source beside iscsi",
    ),
    "iscsi portal type": (REMOTE, "volume.iscsi.portal", NO_STRINGS, "a string"),
    "iscsi portal absent": (REMOTE, "volume.iscsi.portal", [ABSENT], "a value"),
    "iscsi portal": (REMOTE, "volume.iscsi.portal", BAD_PORTALS, "IPv6 address in brackets"),
    "iscsi target type": (REMOTE, "volume.iscsi.target", NO_STRINGS, "a string"),
    "iscsi target absent": (REMOTE, "volume.iscsi.target", [ABSENT], "a value"),
    "iscsi target": (REMOTE, "volume.iscsi.target", BAD_TARGETS, "an iSCSI name"),
    "iscsi lun type": (REMOTE, "volume.iscsi.lun", [None, "1", 1.0, True, [], {}], "an integer"),
    "iscsi lun absent": (REMOTE, "volume.iscsi.lun", [ABSENT], "a value"),
    "iscsi lun": (REMOTE, "volume.iscsi.lun", [-1, 256, 10**30], "from 0 to 255"),
    "volume mount point type": (DEVICE, "volume.mount_point", NO_STRINGS[1:], "a string"),
    "volume mount point": (
        DEVICE,
        "volume.mount_point",
        ["", "/", "//", "srv", "/srv/../etc", "/srv/", "/srv//a", "//srv", "/./a", "/a\u0000"],
        "a clean absolute path (no '..', no '//', no '/' at its end); not /; or null",
    ),
    "volume options type": (DEVICE, "volume.options", [None, "defaults", 1, {}], "a list"),
    "volume options item": (DEVICE, "volume.options[0]", NO_STRINGS, "a string"),
    "volume options": (
        DEVICE,
        "volume.options",
        [[""], ["a b"], ["a,suid"], ["x" * 129], ["a\u0000"], ["a"] * 33, ["ä"]],
        "a list of at most 32 mount options",
    ),
    "volume read-only": (DEVICE, "volume.read_only", [None, 0, "no", []], "true or false"),
    "volume initialise": (
        DEVICE,
        "volume.initialise",
        [None, "always", "", True, 1],
        "'never' or 'if_blank'",
    ),
    "group description type": (GROUP, "description", NO_STRINGS, "a string"),
    "group description": (
        GROUP,
        "description",
        [*NO_LINES, "x" * 1001],
        "one line of 0 to 1000 characters",
    ),
    "group policy type": (GROUP, "policy", NO_STRINGS[1:], "a string"),
    "group policy": (GROUP, "policy", ["", "none", "a\u0000"], "a policy, or null"),
    "policy description": (
        POLICY,
        "description",
        [*NO_STRINGS, "x" * 1001],
        "a string of at most 1000 characters",
    ),
    "policy rules": (POLICY, "rules", [None, "x", 1, True], "a list of rules"),
    "policy rule": (POLICY, "rules[0]", [None, "x", 1, [], {}, [RULE]], ""),
    "policy operator": (
        POLICY,
        "rules[0].operator",
        [None, 1, "contains", [], {}],
        "one of equals, not_equals",
    ),
    "policy fact": (POLICY, "rules[0].fact", [None, 1, "", "hostname", "os", [], {}], ""),
    "policy value": (POLICY, "rules[0].value", [None, 1, [], {}, True], ""),
    "policy on_match": (POLICY, "on_match", [None, "approve", 1, []], "{action, delay}"),
    "policy action": (
        POLICY,
        "on_match.action",
        [None, "yes", 1, [], {}],
        "one of approve, approve_after, manual, deny",
    ),
    "policy on_fail": (POLICY, "on_fail", [None, "approve", 1, []], "{action, delay}"),
    "policy grace": (POLICY, "grace", [None, 300, "5m", []], "{period, postpone}"),
    "policy period": (
        GRACEFUL,
        "grace.period",
        [None, -1, 604_801, True, "5m", 1.5, []],
        "an integer of 0 to 604800 seconds",
    ),
    "policy postpone": (
        GRACEFUL,
        "grace.postpone",
        [None, -1, 604_801, True, "1h", {}],
        "an integer of 0 to 604800 seconds",
    ),
    "policy offline": (OFFLINE, "offline", [None, 60, "1h", []], "{period, boots, pcrs}"),
    "policy offline period": (
        OFFLINE,
        "offline.period",
        [None, -1, 59, 604_801, True, "1h", 60.5, []],
        "0, or an integer of 60 to 604800 seconds",
    ),
    "policy offline boots": (
        OFFLINE,
        "offline.boots",
        [None, 0, -1, 101, True, "2", {}],
        "an integer of 1 to 100",
    ),
    "policy offline pcrs": (
        OFFLINE,
        "offline.pcrs",
        [None, [], 7, "7", [16], [-1], [7, 7], ["7"], [True], {}],
        "a list of 1 to 16 different integers of 0 to 15",
    ),
    "policy force": (POLICY, "force", [None, "true", 1, []], "true or false"),
    "token name type": (TOKEN, "name", NO_STRINGS, "a string"),
    "token name absent": (TOKEN, "name", [ABSENT], "a value"),
    "token name": (
        TOKEN,
        "name",
        ["", "   ", " new", "new ", "x" * 101, *NO_LINES],
        "one line of 1 to 100 characters",
    ),
    "token role": (
        TOKEN,
        "role",
        [None, "", "admin", "AUDITOR", 1, ["auditor"], {}],
        "'account_administrator', 'security_administrator'",
    ),
    "token role absent": (TOKEN, "role", [ABSENT], "a value"),
    "token expiry type": (TOKEN, "expires_in", ["3600", 3600.0, True, [], {}], "an integer"),
    "token expiry low": (TOKEN, "expires_in", [59, 0, -1, -(10**30)], "at least 60"),
    "token expiry high": (TOKEN, "expires_in", [31_536_001, 10**30], "at most 31536000"),
    "export recipient type": (ASKING, "recipient", NO_STRINGS, "a string"),
    "export recipient absent": (ASKING, "recipient", [ABSENT], "a value"),
    "export recipient": (ASKING, "recipient", BAD_RECIPIENTS, "a public key of age"),
    "enrolment agent type": (ENROLMENT, "agent_name", NO_STRINGS, "a string"),
    "enrolment agent absent": (ENROLMENT, "agent_name", [ABSENT], "a value"),
    "enrolment agent": (ENROLMENT, "agent_name", BAD_NAMES, NAME_EXPECTED),
    "enrolment expiry type": (ENROLMENT, "expires_in", [None, "60", 60.5, True], "an integer"),
    "enrolment expiry low": (ENROLMENT, "expires_in", [59, -1], "at least 60"),
    "enrolment expiry high": (ENROLMENT, "expires_in", [2_592_001], "at most 2592000"),
}
for form in DECISIONS:
    CASES |= {
        f"{form.path} type": (form, "reason", NO_STRINGS, "a string"),
        f"{form.path} absent": (form, "reason", [ABSENT], "a value"),
        form.path: (
            form,
            "reason",
            ["", "ab", "  a  ", "x" * 501, *NO_LINES],
            "one line of 3 to 500 characters",
        ),
    }
EACH = [(name, value) for name, case in CASES.items() for value in case[2]]
LISTS = ("policies", "device-groups", "devices", "agents", "enrollment-tokens", "tokens")


@pytest.fixture(scope="module")
def admin(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caller]:
    """One server for all of these tests: they change nothing."""
    with template.server(tmp_path_factory.mktemp("bad"), Clock()) as server:
        server.machine("web1")
        caller = Caller(server.http, template.tokens[ADMINISTRATOR])
        caller.put("/devices/there", {"agent": "web1", "volume": {"source": "/dev/there"}})
        yield caller


def changed(body: dict[str, Any], field: str, value: object) -> dict[str, Any]:
    """Return the body with another value at a path such as `rules[0].operator`."""
    name, _, rest = field.partition(".")
    name, _, index = name.partition("[")
    if index:
        items = list(body.get(name, []))
        items[0] = changed(items[0], rest, value) if rest else value
        return {**body, name: items}
    if rest:
        return {**body, name: changed(body.get(name, {}), rest, value)}
    if value is ABSENT:
        return {key: kept for key, kept in body.items() if key != name}
    return {**body, name: value}


def everything(admin: Caller) -> list[Any]:
    return [admin.items(f"/{name}") for name in LISTS] + [admin.get("/audit-head")["size"]]


@pytest.mark.parametrize(("name", "value"), EACH)
def test_a_bad_value_is_refused_by_name(admin: Caller, name: str, value: Any) -> None:
    form, field, _, expected = CASES[name]
    before = everything(admin)
    body = changed(form.body, field, value)
    document = admin.refused("invalid_request", form.method, form.path, body)
    found = fields(document)
    assert found, document
    assert all(f == field or f.startswith((f"{field}.", f"{field}[")) for f in found), document
    assert expected in document["errors"][0]["expected"]
    assert all(field in document["detail"] for field in found)
    assert everything(admin) == before


@pytest.mark.parametrize(
    ("form", "field"),
    [(form, "") for form in (DEVICE, GROUP, POLICY, TOKEN, ENROLMENT, *DECISIONS)]
    + [
        (DEVICE, "volume."),
        (REMOTE, "volume.iscsi."),
        (POLICY, "rules[0]."),
        (POLICY, "on_match."),
    ],
)
@pytest.mark.parametrize("name", ["extra", "__class__", "model_config", "model_dump", "{0}", ""])
def test_an_unknown_field_is_refused_by_name(
    admin: Caller, form: Form, field: str, name: str
) -> None:
    body = changed(form.body, field + "EXTRA", 1)
    holder = body
    for part in [step for step in field.rstrip(".").split(".") if step]:
        holder = holder["rules"][0] if part == "rules[0]" else holder[part]
    holder[name] = holder.pop("EXTRA")
    if field == "on_match.":
        holder["action"] = "approve"
    document = admin.refused("invalid_request", form.method, form.path, body)
    assert f"{field}{name}".rstrip(".") in [f.rstrip(".") for f in fields(document)]


def test_every_wrong_field_is_named_at_once(admin: Caller) -> None:
    body = {"agent": 1, "enabled": "yes", "volume": {"source": 1, "options": [1, "a", 2]}, "x": 1}
    document = admin.refused("invalid_request", "PUT", "/devices/new", body)
    assert sorted(fields(document)) == [
        "agent",
        "enabled",
        "volume.options[0]",
        "volume.options[2]",
        "volume.source",
        "x",
    ]
    volume = {"source": "x", "mount_point": "/", "options": ["a b"]}
    body = {"agent": "none", "volume": volume}
    document = admin.refused("invalid_request", "PUT", "/devices/new", body)
    assert sorted(fields(document)) == ["volume.mount_point", "volume.options", "volume.source"]
    body = {"rules": [{"fact": "os.id", "operator": "is"}, {}], "on_match": 1, "force": 1, "z": 1}
    document = admin.refused("invalid_request", "PUT", "/policies/new", body)
    assert sorted(fields(document)) == [
        "force",
        "on_match",
        "rules[0].operator",
        "rules[0].value",
        "rules[1]",
        "z",
    ]
    document = admin.refused("invalid_request", "POST", "/tokens", {"expires_in": 1})
    assert sorted(fields(document)) == ["expires_in", "name", "role"]


@pytest.mark.parametrize("path", ["/policies", "/device-groups", "/devices"])
@pytest.mark.parametrize("name", ["-a", "a-", "A", "a%20b", "%C3%A4", "x" * 64, ".", "a%0A", "a:b"])
def test_a_bad_name_in_the_path_is_refused(admin: Caller, path: str, name: str) -> None:
    body = DEVICE.body if path == "/devices" else {}
    document = admin.refused("invalid_request", "PUT", f"{path}/{name}", body)
    assert document["errors"][0]["field"] == "name"
    assert document["errors"][0]["expected"] == NAME_EXPECTED


@pytest.mark.parametrize("name", ["a", "0", "a.b_c-d", "x" * 63])
def test_the_longest_and_the_shortest_names_are_accepted(admin: Caller, name: str) -> None:
    admin.put(f"/device-groups/{name}", {})
    assert admin.get(f"/device-groups/{name}")["name"] == name
    admin.delete(f"/device-groups/{name}")


def test_a_read_only_volume_is_not_initialised(admin: Caller) -> None:
    volume = {**VOLUME, "read_only": True}
    document = admin.refused(
        "invalid_request", "PUT", "/devices/new", {"agent": "web1", "volume": volume}
    )
    assert fields(document) == ["volume.initialise"]


def test_the_longest_texts_are_accepted(admin: Caller) -> None:
    admin.put("/device-groups/long", {"description": "ä" * 1000})
    admin.put("/policies/long", {"description": "😀" * 1000})
    token = admin.post("/tokens", {"name": "ü" * 100, "role": "auditor", "expires_in": 31_536_000})
    admin.delete(f"/tokens/{token['id']}")
    admin.delete("/device-groups/long")
    admin.delete("/policies/long")
