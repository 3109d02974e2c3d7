"""Ports: what services need of the world. Each has one contract test suite for all adapters."""

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, Protocol, TypeVar

from securecloud_server.domain.errors import FieldError
from securecloud_server.domain.keys import KeyLife
from securecloud_server.domain.records import (
    Agent,
    ApiToken,
    AuditEvent,
    Check,
    Device,
    DeviceGroup,
    DeviceState,
    EnrolmentTokenRecord,
    Governed,
    HeaderCopy,
    Key,
    KeyExport,
    KeyRequest,
    LoggedEvent,
    PolicyText,
    Session,
    Sighting,
    TreeHead,
)

R = TypeVar("R")
T = TypeVar("T")

Clock = Callable[[], float]
"""Seconds since 1970 UTC."""
RandomSource = Callable[[int], bytes]


class Store(Protocol[R]):
    """A table of records with one text key."""

    def get(self, key: str) -> R | None:
        """Return the record, or None."""

    def add(self, record: R) -> None:
        """Insert; Conflict when the key or another unique field is taken."""

    def replace(self, record: R) -> None:
        """Overwrite the record with the same key; NotFound when there is none."""

    def delete(self, key: str) -> None:
        """Remove; NotFound when there is none."""

    def page(self, after: str | None, limit: int, filters: Mapping[str, str | None]) -> Sequence[R]:
        """Return up to `limit` records behind the key `after`, those whose fields equal filters.

        In ascending order of the key (key requests: newest first). A filter of None is no filter.
        """


class AgentStore(Store[Agent], Protocol):
    """Agents by name."""

    def by_id(self, agent_id: str) -> Agent | None:
        """Return the agent with this id."""


class CheckStore(Protocol):
    """The last check that was asked of each agent, by agent id."""

    def of(self, agent_ids: Sequence[str]) -> Mapping[str, Check]:
        """Return the checks of these agents, by agent id."""

    def put(self, check: Check) -> None:
        """Insert or overwrite the agent's."""

    def requested_after(self, number: int) -> Mapping[str, int]:
        """Return the numbers greater than `number`, by agent id."""


class PolicyStore(Store[PolicyText], Protocol):
    """The current version of each policy by name; `add` and `replace` keep every version too."""

    def versions(self, name: str) -> Sequence[PolicyText]:
        """Return all versions, newest first."""

    def users(self, name: str) -> Sequence[str]:
        """Return which devices and groups name this policy, as `device:x` and `group:y`."""


class DeviceStore(Store[Device], Protocol):
    """Devices by name; `add` also starts an empty DeviceState, `delete` removes it and the keys."""

    def of_agent(self, agent: str) -> Sequence[Device]:
        """Return the agent's devices by name."""

    def states(self, device_ids: Sequence[str]) -> Mapping[str, DeviceState]:
        """Return the states by device id."""

    def put_state(self, state: DeviceState) -> None:
        """Overwrite the state."""


class HeaderCopyStore(Protocol):
    """The last copy of each device's LUKS header, by device id."""

    def get(self, device_id: str) -> HeaderCopy | None:
        """Return the device's, or None."""

    def put(self, copy: HeaderCopy) -> None:
        """Insert or overwrite the device's."""


class KeyStoreRecords(Protocol):
    """Key versions by device."""

    def lives(self, device_ids: Sequence[str]) -> Mapping[str, KeyLife]:
        """Return the version of each device that is in use and its successor, by device id."""

    def versions(self, device_ids: Sequence[str]) -> Sequence[Key]:
        """Return all versions of each device, those of one device in their order."""

    def put(self, key: Key) -> None:
        """Insert or overwrite this version."""


class KeyRequestStore(Store[KeyRequest], Protocol):
    """Key requests by id."""

    def open_of(self, device_ids: Sequence[str]) -> Mapping[str, KeyRequest]:
        """Return the newest request of each device, by device id, whatever its state."""


class KeyExportStore(Store[KeyExport], Protocol):
    """Exports of keys by id, newest first."""

    def asked_at(self, since: int, limit: int, origin: str | None) -> Sequence[int]:
        """Return when the last `limit` exports after `since` were asked for, newest first.

        By requesters of that origin, or with None by all.
        """

    def overdue(self, now: int) -> Sequence[KeyExport]:
        """Return those that wait for somebody who did not come in time."""


class EvidenceStore(Protocol):
    """What machines showed: the last evidence of each device and some of its history."""

    def keep(self, sighting: Sighting, body: str, history: int) -> None:
        """Keep what was seen now; `body` is the document's JSON, `sighting.digest` its SHA-256.

        While a device's machine shows the same document, only the sighting is brought up to date.
        Otherwise a new one begins, and of the device's older ones the last `history - 1` remain.
        """

    def history(self, device_id: str) -> Sequence[tuple[Sighting, Mapping[str, Any]]]:
        """Return the device's sightings with their documents, newest first."""

    def governed(self, policy: str, default: str) -> Sequence[Governed]:
        """Return the devices that `policy` governs, by name.

        These name it, or name none and their group does; or neither does, and it is `default`.
        """

    def is_overdue(self, before: int) -> bool:
        """Return whether `forget` has anything to do."""

    def forget(self, before: int) -> int:
        """Forget what was last seen before that time, but no device's last sighting.

        Documents that nobody showed any more go as well. Return how many sightings went.
        """


class SessionStore(Protocol):
    """Used sessions."""

    def consume(self, session: Session) -> None:
        """Insert; Conflict when this session was used before."""

    def acknowledge(self, session_id: bytes, now: int) -> None:
        """Mark acknowledged; Conflict when it was, NotFound when there is no such session."""

    def purge(self, now: int) -> int:
        """Forget sessions that expired before `now`; return how many."""


class AuditLog(Protocol):
    """The append-only Merkle log (RFC 9162)."""

    def append(self, event: AuditEvent) -> int:
        """Append in this transaction; return the sequence number."""

    def size(self) -> int:
        """Return how many events there are, this transaction's included."""

    def head(self) -> TreeHead:
        """Return the signed head, this transaction's events included."""

    def consistency(self, old_size: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `old_size` is a prefix of the present one."""

    def page(
        self, after: int | None, limit: int, filters: Mapping[str, str | None]
    ) -> Sequence[LoggedEvent]:
        """Return events behind sequence number `after`, oldest first."""


class Transaction(Protocol):
    """One unit of work: everything in it happens, or nothing."""

    agents: AgentStore
    checks: CheckStore
    groups: Store[DeviceGroup]
    policies: PolicyStore
    devices: DeviceStore
    header_copies: HeaderCopyStore
    keys: KeyStoreRecords
    requests: KeyRequestStore
    exports: KeyExportStore
    evidence: EvidenceStore
    sessions: SessionStore
    api_tokens: Store[ApiToken]
    enrolment_tokens: Store[EnrolmentTokenRecord]
    audit: AuditLog


class Database(Protocol):
    """Where transactions come from."""

    def read(self) -> AbstractContextManager[Transaction]:
        """Open a consistent view; writing to it is an error."""

    def write(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in one transaction; when this returns, it is on disk.

        Several pieces of work may share one commit; each has its own savepoint, so an exception
        undoes that piece alone and is raised here. `work` touches nothing but its transaction.
        Raises Unavailable when the database is full, read-only, locked for too long or away.
        """

    def check(self) -> None:
        """Raise Unavailable unless a transaction can be written."""


class Keystore(Protocol):
    """Keeps device keys (64 octets), each bound to its device id and version."""

    name: str

    def create(self, device_id: str, version: int) -> bytes:
        """Make a fresh key and return its reference."""

    def adopt(self, key: bytes, device_id: str, version: int) -> bytes:
        """Keep a key (64 octets) that was made elsewhere, and return its reference."""

    def fetch(self, reference: bytes, device_id: str, version: int) -> bytes:
        """Return the key; Unavailable when the store is away or the reference does not open."""

    def renew(self, reference: bytes, device_id: str, version: int) -> bytes | None:
        """Return another reference to the same key where this one is going out of use, else None.

        Unavailable when it does not open.
        """

    def destroy(self, reference: bytes) -> None:
        """Make the key unrecoverable where this store can; the caller forgets the reference."""

    def check(self) -> None:
        """Raise Unavailable unless keys can be created and fetched now."""

    def close(self) -> None:
        """Give up all connections."""


class KeptKey(NamedTuple):
    """Which key a cache keeps: one that was moved, or replaced, is another."""

    device_id: str
    version: int
    reference: bytes


class KeyCache(Protocol):
    """Keys in the memory of this process, which others have to empty."""

    def kept(self) -> Set[KeptKey]:
        """Return which keys are there."""

    def drop(self, keys: Iterable[KeptKey]) -> None:
        """Forget these; one that is not there is no error."""

    def clear(self) -> None:
        """Forget all."""


class RecipientSealer(Protocol):
    """Encrypts small secrets to the public keys of people."""

    def errors(self, recipient: str) -> list[FieldError]:
        """Return what is wrong with a public key."""

    def seal(self, secret: bytes, recipient: str) -> str:
        """Return `secret`, exactly as it is, encrypted to the public key, as text."""


class Sealer(Protocol):
    """Encrypts small secrets of the server itself under its master key."""

    def seal(self, secret: bytes, purpose: str, *context: str) -> bytes:
        """Return `secret` encrypted and bound to its purpose and context."""

    def open(self, sealed: bytes, purpose: str, *context: str) -> bytes:
        """Return the secret; Unavailable when this key, purpose or context is another."""

    def renew(self, sealed: bytes, purpose: str, *context: str) -> bytes | None:
        """Return it sealed anew where the master key was replaced since, else None."""
