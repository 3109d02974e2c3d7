"""What the server remembers: frozen records, one table each. Times are whole seconds, UTC."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Agent:
    """A machine whose identity key is bound to a name; the binding is never overwritten."""

    name: str
    agent_id: str
    identity_key: bytes
    state: str  # active | retired
    enrolled_at: int
    last_seen_at: int | None = None
    last_source: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """The last check that somebody asked of an agent.

    `number` is the size of the audit log with the request in it, so that a later request, of
    whichever agent, has a greater one. `answered_at` is when an exchange was decided that began
    after it and was about all of the agent's devices; None while that is awaited.
    """

    agent_id: str
    number: int
    requested_at: int
    answered_at: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceGroup:
    """Devices that share a policy unless they name their own."""

    name: str
    description: str
    policy: str | None
    created_at: int
    updated_at: int
    revision: int = 1


@dataclass(frozen=True, slots=True)
class PolicyText:
    """One version of a policy; `text` is the normalised mapping, `digest` its SHA-256 in hex."""

    name: str
    version: int
    digest: str
    text: Mapping[str, Any]
    created_at: int
    updated_at: int
    updated_by: str


@dataclass(frozen=True, slots=True)
class Device:
    """A volume as its administrator registered it."""

    name: str
    device_id: str
    agent: str
    group: str | None
    policy: str | None
    enabled: bool
    volume: Mapping[str, Any]
    created_at: int
    updated_at: int
    revision: int = 1


@dataclass(frozen=True, slots=True)
class DeviceState:
    """What the exchanges taught the server about a device; not part of its ETag.

    `lineage` is the value that the agent has acknowledged, `lineage_next` the one handed out
    last; either is accepted, so that a lost answer locks nobody out. `volume_state` is how the
    volume is on its machine since `volume_state_at`, as far as the machine has told.

    `header` is the digest of the LUKS2 header that it opens with, and `volume_key` what stands for
    the volume key in it: the one that counts while the machine may be changing key slots. The
    refused ones are of the header that was presented last and did not fit. Of the header
    `header_kept` there is a copy.
    """

    device_id: str
    luks_uuid: str | None = None
    quarantined: bool = False
    lineage: bytes | None = None
    lineage_next: bytes | None = None
    first_seen_at: int | None = None
    last_release_at: int | None = None
    volume_state: str | None = None  # released | failed | open | suspended | closed
    volume_state_at: int | None = None
    header: bytes | None = None
    volume_key: bytes | None = None
    header_changing: bool = False
    header_refused: bytes | None = None
    volume_key_refused: bytes | None = None
    header_kept: bytes | None = None


@dataclass(frozen=True, slots=True)
class HeaderCopy:
    """The octets of a device's LUKS header, whose SHA-256 is `digest`."""

    device_id: str
    digest: bytes
    header: bytes = field(repr=False)
    kept_at: int


@dataclass(frozen=True, slots=True)
class Key:
    """One version of a device's key. `reference` is what the keystore needs to fetch it."""

    device_id: str
    version: int
    state: str  # pre_active | active | deactivated | destroyed (KMIP 2.1, section 4.57)
    keystore: str
    reference: bytes
    created_at: int
    activated_at: int | None = None
    deactivated_at: int | None = None
    destroyed_at: int | None = None

    def __repr__(self) -> str:
        return f"Key({self.device_id}, {self.version}, {self.state})"


@dataclass(frozen=True, slots=True)
class Transition:
    """One step in the life of a key request."""

    at: int
    old: str | None
    new: str
    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class KeyRequest:
    """One request for one device's key, with each rule beside the machine's value.

    `failing` holds the paths of the rules that failed; an approval covers these and no others.
    """

    request_id: str
    device_id: str
    device: str
    agent: str
    boot_id: str
    key_version: int
    state: str
    policy: str
    policy_version: int
    matched: bool
    failing: tuple[str, ...]
    rules: tuple[Mapping[str, Any], ...]
    decided_by: str | None
    reason: str
    created_at: int
    updated_at: int
    due_at: int | None = None
    expires_at: int | None = None
    transitions: tuple[Transition, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class KeyExport:
    """One version of a key on its way to a person: asked for by one, granted by another.

    `recipient` is the public key that it is sealed to; the key itself is never kept here. The
    requester is a token, `requester_origin` that token's origin (see `ApiToken`), and so is who
    decided.
    """

    export_id: str
    device_id: str
    device: str
    key_version: int
    recipient: str
    state: str  # pending | granted | denied | collected | expired
    requested_by: str
    requester_id: str
    requester_origin: str
    reason: str
    created_at: int
    expires_at: int
    decided_by: str | None = None
    decided_reason: str | None = None
    decided_at: int | None = None
    collected_at: int | None = None
    decider_id: str | None = None


@dataclass(frozen=True, slots=True)
class Sighting:
    """A run of exchanges in which a device's machine showed the same evidence document.

    `seq` is the audit event of the first decision on it. `first_at` is of the first exchange, all
    from `last_at` on of the last one: when, which session and key request, what was decided, in
    which boot, and the circumstances (`domain.recorded`). `digest` is the document's SHA-256.
    """

    device_id: str
    seq: int
    digest: bytes
    agent_id: str
    first_at: int
    last_at: int
    session_id: bytes
    request_id: str | None
    outcome: str
    code: str
    boot_id: str
    circumstances: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Governed:
    """A device that a policy governs, with all that a decision on it depends on.

    `sighting` is the last one of the machine that the device belongs to now, `document` what it
    showed; None before its first.
    """

    device: Device
    state: DeviceState
    key: Key | None
    request: KeyRequest | None
    sighting: Sighting | None
    document: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Session:
    """A session that has been used; its id can never be used again."""

    session_id: bytes
    agent_id: str
    expires_at: int
    acked_at: int | None = None


@dataclass(frozen=True, slots=True)
class ApiToken:
    """An API token; only the SHA-256 of its secret is kept.

    `origin` is the id of the token that was minted on the server's command line and from which,
    over any number of others, this one was minted; one from the command line is its own. Whoever
    had an origin can have all that descend from it, so where two people are needed these are one.
    It is empty for tokens from before it was kept, and these are one as well.
    """

    token_id: str
    name: str
    role: str
    secret_hash: bytes
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    origin: str = ""


@dataclass(frozen=True, slots=True)
class EnrolmentTokenRecord:
    """A one-use right to enrol one agent name; only the SHA-256 of its secret is kept."""

    token_id: str
    agent_name: str
    secret_hash: bytes
    created_at: int
    expires_at: int
    used_at: int | None = None
    used_by: bytes | None = None
    revoked_at: int | None = None


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts: `kind` is token, agent, cli or system; `source` the peer's address, if any.

    `token_id` tells tokens apart that had one name, one after the other.
    """

    kind: str
    name: str
    role: str | None = None
    source: str | None = None
    token_id: str | None = None

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One security-relevant act. `details` holds ids to join on, never a secret."""

    actor: Actor
    action: str  # e.g. key_request.approved
    object: str  # e.g. device:web1-data
    outcome: str  # success | refused | failed
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class LoggedEvent:
    """An event as the log holds it; `body` is the exact leaf of the Merkle tree. `at` in ms."""

    seq: int
    at: int
    body: bytes
    event: AuditEvent


@dataclass(frozen=True, slots=True)
class TreeHead:
    """A signed tree head (RFC 9162, section 4.10). `at` in seconds."""

    size: int
    root: bytes
    at: int
    signature: bytes
