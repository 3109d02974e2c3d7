"""One record of each kind, and strings that databases have stumbled over."""

from dataclasses import replace
from typing import Any

from securecloud_server.domain.records import (
    Actor,
    Agent,
    ApiToken,
    AuditEvent,
    Check,
    Device,
    DeviceGroup,
    EnrolmentTokenRecord,
    Key,
    KeyExport,
    KeyRequest,
    PolicyText,
    Sighting,
    Transition,
)

HOSTILE = [
    "'; DROP TABLE devices; --",
    'quo"te',
    "per%cent_",
    "Zoë \U0001f511",
    "\\ \t",
    "x" * 9000,
]

AGENT = Agent("web1", "id-1", bytes(range(32)), "active", 1, 2, "192.0.2.1", "0.1.0")
GROUP = DeviceGroup("web", "Web servers", None, 1, 2, 3)
POLICY = PolicyText(
    "web", 1, "d" * 64, {"rules": [{"fact": "os.id"}], "force": False}, 1, 2, "cli:x"
)
VOLUME = {"source": "/dev/x", "options": ["noatime"], "read_only": False, "mount_point": None}
DEVICE = Device("web1-data", "dev-1", "web1", None, None, True, VOLUME, 1, 2)
KEY = Key("dev-1", 1, "pre_active", "local", b"\x00sealed\xff", 1)
REQUEST = KeyRequest(
    request_id="01",
    device_id="dev-1",
    device="web1-data",
    agent="web1",
    boot_id="b",
    key_version=1,
    state="pending",
    policy="web",
    policy_version=1,
    matched=False,
    failing=("rules[0]",),
    rules=({"path": "rules[0]", "value": {"deep": [1, None, "ü"]}},),
    decided_by=None,
    reason="",
    created_at=1,
    updated_at=1,
    transitions=(Transition(1, None, "pending", "agent:web1", ""),),
)
EXPORT = KeyExport(
    export_id="01",
    device_id="dev-1",
    device="web1-data",
    key_version=1,
    recipient="age1x",
    state="granted",
    requested_by="token:alice",
    requester_id="t1",
    requester_origin="t1",
    reason="a rescue",
    created_at=10,
    expires_at=100,
    decided_by="token:bob",
    decided_reason="I know",
    decided_at=20,
    decider_id="t2",
)
SIGHTING = Sighting(
    device_id="dev-1",
    seq=1,
    digest=b"\x01" * 32,
    agent_id="id-1",
    first_at=10,
    last_at=10,
    session_id=b"s" * 16,
    request_id="01",
    outcome="granted",
    code="approved",
    boot_id="b",
    circumstances={"request": {"value": {"weekday": "friday"}, "provenance": "observed"}},
)
CHECK = Check("id-1", 7, 10, None)
API_TOKEN = ApiToken("t1", "ci", "auditor", b"h" * 32, 1, None, None, "t0")
ENROLMENT_TOKEN = EnrolmentTokenRecord("e1", "web1", b"h" * 32, 1, 2, None, None, None)


def event(number: int = 0, **changes: Any) -> AuditEvent:
    base = AuditEvent(Actor("cli", "tester"), "test.done", f"thing:{number}", "success", "", {})
    return replace(base, **changes)


STORES: list[tuple[str, str, Any]] = [
    ("agents", "name", AGENT),
    ("groups", "name", GROUP),
    ("policies", "name", POLICY),
    ("devices", "name", DEVICE),
    ("requests", "request_id", REQUEST),
    ("exports", "export_id", EXPORT),
    ("api_tokens", "token_id", API_TOKEN),
    ("enrolment_tokens", "token_id", ENROLMENT_TOKEN),
]
"""The name of each store, of its key, and a record."""
