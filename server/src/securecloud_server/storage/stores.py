"""The stores that know more than their key."""

from collections.abc import Mapping, Sequence

from sqlalchemy import bindparam, delete, literal, select, union_all, update

from securecloud_server.domain.errors import Conflict, NotFound
from securecloud_server.domain.keys import KeyLife, life_of
from securecloud_server.domain.records import (
    Agent,
    ApiToken,
    Check,
    Device,
    DeviceGroup,
    DeviceState,
    EnrolmentTokenRecord,
    HeaderCopy,
    Key,
    KeyRequest,
    PolicyText,
    Session,
    Transition,
)
from securecloud_server.storage import schema
from securecloud_server.storage.dialects import Taken
from securecloud_server.storage.runner import Runner
from securecloud_server.storage.tables import (
    FLAG,
    JSON,
    TEXT,
    WORDS,
    Codec,
    RecordTable,
    TableStore,
    to_json,
)

_TRANSITIONS = Codec(
    lambda steps: to_json([(s.at, s.old, s.new, s.actor, s.reason) for s in steps]),
    lambda text: tuple(Transition(*step) for step in JSON.decode(text)),
)

_AGENTS = RecordTable("agent", Agent, schema.AGENTS, "name")
_GROUPS = RecordTable("device group", DeviceGroup, schema.DEVICE_GROUPS, "name")
_POLICIES = RecordTable("policy", PolicyText, schema.POLICIES, "name", {"text": TEXT})
_VERSIONS = RecordTable("policy", PolicyText, schema.POLICY_VERSIONS, "name", {"text": JSON})
DEVICES = RecordTable("device", Device, schema.DEVICES, "name", {"enabled": FLAG, "volume": TEXT})
STATES = RecordTable(
    "device",
    DeviceState,
    schema.DEVICE_STATES,
    "device_id",
    {"quarantined": FLAG, "header_changing": FLAG},
)
KEYS = RecordTable("key", Key, schema.KEYS, "device_id")
REQUESTS = RecordTable(
    "key request",
    KeyRequest,
    schema.KEY_REQUESTS,
    "request_id",
    {"matched": FLAG, "failing": WORDS, "rules": WORDS, "transitions": _TRANSITIONS},
    newest_first=True,
)
_API_TOKENS = RecordTable("API token", ApiToken, schema.API_TOKENS, "token_id")
_ENROLMENT_TOKENS = RecordTable(
    "enrolment token", EnrolmentTokenRecord, schema.ENROLMENT_TOKENS, "token_id"
)


def groups(runner: Runner) -> TableStore[DeviceGroup]:
    """Return the store of device groups."""
    return TableStore(runner, _GROUPS)


def api_tokens(runner: Runner) -> TableStore[ApiToken]:
    """Return the store of API tokens."""
    return TableStore(runner, _API_TOKENS)


def enrolment_tokens(runner: Runner) -> TableStore[EnrolmentTokenRecord]:
    """Return the store of enrolment tokens."""
    return TableStore(runner, _ENROLMENT_TOKENS)


_AGENT_BY_ID = select(schema.AGENTS).where(schema.AGENTS.c.agent_id == bindparam("agent_id"))


class SqlAgents(TableStore[Agent]):
    """Agents by name."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner, _AGENTS)

    def by_id(self, agent_id: str) -> Agent | None:
        """Return the agent with this id."""
        row = self._runner.row(_AGENT_BY_ID, {"agent_id": agent_id})
        return None if row is None else _AGENTS.record(row)


_CHECKS = RecordTable("check", Check, schema.CHECKS, "agent_id")
_REQUESTED_AFTER = select(schema.CHECKS.c.agent_id, schema.CHECKS.c.number).where(
    schema.CHECKS.c.number > bindparam("number")
)


class SqlChecks(TableStore[Check]):
    """The last check that was asked of each agent."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner, _CHECKS)

    def of(self, agent_ids: Sequence[str]) -> Mapping[str, Check]:
        """Return the checks of these agents, by agent id."""
        return {check.agent_id: check for check in self._in("agent_id", agent_ids)}

    def put(self, check: Check) -> None:
        """Insert or overwrite the agent's."""
        row = _CHECKS.row(check)
        if not self._runner.change(_CHECKS.update, {**row, "where_key": check.agent_id}):
            self._runner.change(_CHECKS.insert, row)

    def requested_after(self, number: int) -> Mapping[str, int]:
        """Return the numbers greater than `number`, by agent id."""
        return dict(self._runner.rows(_REQUESTED_AFTER, {"number": number}))


_POLICY_VERSIONS = (
    select(schema.POLICY_VERSIONS)
    .where(schema.POLICY_VERSIONS.c.name == bindparam("name"))
    .order_by(schema.POLICY_VERSIONS.c.version.desc())
)
_POLICY_USERS = union_all(
    select(literal("device:").concat(schema.DEVICES.c.name)).where(
        schema.DEVICES.c.policy == bindparam("policy")
    ),
    select(literal("group:").concat(schema.DEVICE_GROUPS.c.name)).where(
        schema.DEVICE_GROUPS.c.policy == bindparam("policy")
    ),
)


class SqlPolicies(TableStore[PolicyText]):
    """The current version of each policy, and all its versions beside it."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner, _POLICIES)

    def add(self, record: PolicyText) -> None:
        """Insert the first version."""
        super().add(record)
        self._runner.change(_VERSIONS.insert, _VERSIONS.row(record))

    def replace(self, record: PolicyText) -> None:
        """Make this version the current one."""
        super().replace(record)
        try:
            self._runner.change(_VERSIONS.insert, _VERSIONS.row(record))
        except Taken:
            raise Conflict(f"policy {record.name!r} has a version {record.version}") from None

    def versions(self, name: str) -> Sequence[PolicyText]:
        """Return all versions, newest first."""
        rows = self._runner.rows(_POLICY_VERSIONS, {"name": name})
        return [_VERSIONS.record(row) for row in rows]

    def users(self, name: str) -> Sequence[str]:
        """Return which devices and groups name this policy."""
        return sorted(row[0] for row in self._runner.rows(_POLICY_USERS, {"policy": name}))


_DEVICES_OF_AGENT = (
    select(schema.DEVICES)
    .where(schema.DEVICES.c.agent == bindparam("agent"))
    .order_by(schema.DEVICES.c.name)
)


class SqlDevices(TableStore[Device]):
    """Devices by name, each with its state."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner, DEVICES)
        self._states = _StateStore(runner)

    def add(self, record: Device) -> None:
        """Insert the device with an empty state."""
        super().add(record)
        self._runner.change(STATES.insert, STATES.row(DeviceState(record.device_id)))

    def of_agent(self, agent: str) -> Sequence[Device]:
        """Return the agent's devices by name."""
        return [
            DEVICES.record(row) for row in self._runner.rows(_DEVICES_OF_AGENT, {"agent": agent})
        ]

    def states(self, device_ids: Sequence[str]) -> Mapping[str, DeviceState]:
        """Return the states by device id."""
        return {state.device_id: state for state in self._states.of(device_ids)}

    def put_state(self, state: DeviceState) -> None:
        """Overwrite the state; NotFound when the device is gone."""
        self._states.replace(state)


class _StateStore(TableStore[DeviceState]):
    def __init__(self, runner: Runner) -> None:
        super().__init__(runner, STATES)

    def of(self, device_ids: Sequence[str]) -> list[DeviceState]:
        return self._in("device_id", device_ids)


_HEADER_COPIES = RecordTable("header copy", HeaderCopy, schema.HEADER_COPIES, "device_id")


class SqlHeaderCopies(TableStore[HeaderCopy]):
    """The last copy of each device's LUKS header."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner, _HEADER_COPIES)

    def put(self, copy: HeaderCopy) -> None:
        """Insert or overwrite the device's."""
        row = _HEADER_COPIES.row(copy)
        if not self._runner.change(_HEADER_COPIES.update, {**row, "where_key": copy.device_id}):
            self._runner.change(_HEADER_COPIES.insert, row)


_UPDATE_KEY = update(schema.KEYS).where(
    schema.KEYS.c.device_id == bindparam("where_device_id"),
    schema.KEYS.c.version == bindparam("where_version"),
)


class SqlKeys(TableStore[Key]):
    """Key versions by device."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner, KEYS)

    def lives(self, device_ids: Sequence[str]) -> Mapping[str, KeyLife]:
        """Return the version of each device that is in use and its successor, by device id."""
        versions: dict[str, list[Key]] = {}
        for key in self.versions(device_ids):
            versions.setdefault(key.device_id, []).append(key)
        return {device_id: life_of(each) for device_id, each in versions.items()}

    def versions(self, device_ids: Sequence[str]) -> Sequence[Key]:
        """Return all versions of each device, those of one device in their order."""
        return sorted(self._in("device_id", device_ids), key=lambda key: key.version)

    def put(self, key: Key) -> None:
        """Insert or overwrite this version."""
        row = KEYS.row(key)
        where = {"where_device_id": key.device_id, "where_version": key.version}
        if not self._runner.change(_UPDATE_KEY, {**row, **where}):
            self._runner.change(KEYS.insert, row)


_NEWEST_REQUEST = (
    select(schema.KEY_REQUESTS)
    .where(schema.KEY_REQUESTS.c.device_id == bindparam("device_id"))
    .order_by(schema.KEY_REQUESTS.c.request_id.desc())
    .limit(1)
)


class SqlKeyRequests(TableStore[KeyRequest]):
    """Key requests by id; ids sort by time."""

    def __init__(self, runner: Runner) -> None:
        super().__init__(runner, REQUESTS)

    def open_of(self, device_ids: Sequence[str]) -> Mapping[str, KeyRequest]:
        """Return the newest request of each device, whatever its state."""
        found = {}
        for device_id in device_ids:
            row = self._runner.row(_NEWEST_REQUEST, {"device_id": device_id})
            if row is not None:
                found[device_id] = REQUESTS.record(row)
        return found


_SESSIONS = RecordTable("session", Session, schema.SESSIONS, "session_id")
_ACKNOWLEDGE = (
    update(schema.SESSIONS)
    .where(
        schema.SESSIONS.c.session_id == bindparam("session"), schema.SESSIONS.c.acked_at.is_(None)
    )
    .values(acked_at=bindparam("now"))
)
_PURGE = delete(schema.SESSIONS).where(schema.SESSIONS.c.expires_at < bindparam("now"))


class SqlSessions:
    """Used sessions."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def consume(self, session: Session) -> None:
        """Insert; Conflict when this session was used before."""
        try:
            self._runner.change(_SESSIONS.insert, _SESSIONS.row(session))
        except Taken:
            raise Conflict(f"session {session.session_id.hex()} was used before") from None

    def acknowledge(self, session_id: bytes, now: int) -> None:
        """Mark acknowledged; Conflict when it was, NotFound when there is no such session."""
        if self._runner.change(_ACKNOWLEDGE, {"session": session_id, "now": now}):
            return
        if self._runner.row(_SESSIONS.select_one, {"key": session_id}) is None:
            raise NotFound("session", session_id.hex())
        raise Conflict(f"session {session_id.hex()} was acknowledged before")

    def purge(self, now: int) -> int:
        """Forget sessions that expired before `now`; return how many."""
        return self._runner.change(_PURGE, {"now": now})
