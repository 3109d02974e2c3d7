"""The wire types of protocol version 1. Frozen: a change to any of them is a new version.

Each class is one JSON object; its fields are the object's members, all required, in this order.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from securecloud_protocol.codecs import (
    Codec,
    boolean,
    checked,
    choice,
    integer,
    items,
    json_value,
    octets,
    optional,
    record,
    table,
    text,
)
from securecloud_protocol.encoding import MAX_INTEGER, json_decode, json_encode
from securecloud_protocol.errors import ProtocolError
from securecloud_protocol.suite import (
    AEAD_OVERHEAD,
    KEM_KEY_BYTES,
    NONCE_BYTES,
    SEALED_OVERHEAD,
    SECRET_BYTES,
    SIGNATURE_BYTES,
    SIGNING_KEY_BYTES,
)

MAX_DEVICES = 64
SESSION_ID_BYTES = 16
DEVICE_KEY_BYTES = 64
LINEAGE_BYTES = 32

MAX_CORE_BYTES = 64 * 1024
MAX_BODY_BYTES = 128 * 1024
MAX_TOKEN_BYTES = 8192
MAX_HEADER_BYTES = 560 * 1024
"""A LUKS2 header with two key slots has 536 KiB, as cryptsetup lays them out."""

_UNPRINTABLE = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069"
"""Control characters, line separators and marks that reorder text: they would forge log lines."""

_NAME = text("name", r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_UUID = text("UUID", r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_WORD = text("word", r"[a-z0-9_]{1,64}")
_PATH = text("path", rf"/(?!(?:.*/)?\.{{1,2}}(?:/|$))[^{_UNPRINTABLE}]{{0,1023}}")
_LINE = text("line", rf"[^{_UNPRINTABLE}]{{0,1024}}")
_TIME = integer(0, MAX_INTEGER)
_SECONDS = integer(0, 366 * 86400)
_NONCE = octets(NONCE_BYTES)
_DIGEST = octets(32)
_SESSION_ID = octets(SESSION_ID_BYTES)
_KEY_VERSION = integer(0, 2**31)
_SEALED_SECRET = octets(SEALED_OVERHEAD + SECRET_BYTES)
_TOKEN = octets(AEAD_OVERHEAD, MAX_TOKEN_BYTES)
_CORE = octets(2, MAX_CORE_BYTES)
_BODY = octets(AEAD_OVERHEAD, MAX_BODY_BYTES)
_DEVICES = items(_NAME, MAX_DEVICES, unique=str)


def encode(codec: Codec[Any], message: object) -> bytes:
    """Return the payload octets of `message`; ValueError if the peer would have to refuse it."""
    try:
        return json_encode(codec.encode(message))
    except ProtocolError as error:
        raise ValueError(error.detail) from None


def decode(codec: Codec[Any], payload: bytes) -> Any:
    """Parse payload octets strictly."""
    return codec.decode(json_decode(payload))


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """Who a management server is; agents pin it by its fingerprint (`server.fingerprint`)."""

    server_id: str
    kem_key: bytes
    signing_key: bytes


SERVER_IDENTITY = record(
    ServerIdentity,
    server_id=_UUID,
    kem_key=octets(KEM_KEY_BYTES),
    signing_key=octets(SIGNING_KEY_BYTES),
)


@dataclass(frozen=True, slots=True)
class Enrol:
    """Binds an agent's name to its identity key, once, against a one-use token."""

    server_id: str
    agent_name: str
    identity_key: bytes
    nonce: bytes
    token_id: str
    sealed_secret: bytes


ENROL = record(
    Enrol,
    server_id=_UUID,
    agent_name=_NAME,
    identity_key=octets(SIGNING_KEY_BYTES),
    nonce=_NONCE,
    token_id=text("token id", r"[a-z0-9]{1,64}"),
    sealed_secret=_SEALED_SECRET,
)


@dataclass(frozen=True, slots=True)
class Enrolled:
    """The server's signed answer to `Enrol`."""

    server_id: str
    agent_id: str
    agent_name: str
    nonce: bytes


ENROLLED = record(Enrolled, server_id=_UUID, agent_id=_UUID, agent_name=_NAME, nonce=_NONCE)


@dataclass(frozen=True, slots=True)
class Hello:
    """Opens an exchange. No device names means every device of this agent.

    `time` is the agent's clock, seconds since 1970 UTC; `seen_audit_size` the size of the last
    tree head that this agent has seen, 0 for none.
    """

    agent_id: str
    devices: tuple[str, ...]
    boot_id: str
    nonce: bytes
    time: int
    seen_audit_size: int
    reply_key: bytes
    sealed_secret: bytes


HELLO = record(
    Hello,
    agent_id=_UUID,
    devices=_DEVICES,
    boot_id=_UUID,
    nonce=_NONCE,
    time=_TIME,
    seen_audit_size=_TIME,
    reply_key=octets(KEM_KEY_BYTES),
    sealed_secret=_SEALED_SECRET,
)


@dataclass(frozen=True, slots=True)
class FactRequest:
    """One fact that the policies of these devices need; `args` narrow it (package names, paths)."""

    name: str
    args: tuple[str, ...] = ()


FACT_REQUEST = record(FactRequest, name=_WORD, args=items(_LINE, 256))


@dataclass(frozen=True, slots=True)
class ChallengeCore:
    """What the server asks. `lifetime` is in seconds from the server's `time`."""

    session_id: bytes
    nonce: bytes
    time: int
    lifetime: int
    devices: tuple[str, ...]
    facts: tuple[FactRequest, ...]
    policy_digest: bytes


CHALLENGE_CORE = record(
    ChallengeCore,
    session_id=_SESSION_ID,
    nonce=_NONCE,
    time=_TIME,
    lifetime=integer(1, 300),
    devices=_DEVICES,
    facts=items(FACT_REQUEST, 64, unique=attrgetter("name")),
    policy_digest=_DIGEST,
)


@dataclass(frozen=True, slots=True)
class Challenge:
    """The core's octets, and the server's own state sealed for itself with the core bound to it."""

    core: bytes
    token: bytes


CHALLENGE = record(Challenge, core=_CORE, token=_TOKEN)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Echoes the challenge and carries the encrypted `EvidenceBody`."""

    core: bytes
    token: bytes
    body: bytes


EVIDENCE = record(Evidence, core=_CORE, token=_TOKEN, body=_BODY)


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact as the machine reports it: a value with its provenance, or the reason for none."""

    value: Any
    provenance: str | None
    error: str | None


def _fact_problem(fact: Fact) -> str | None:
    if (fact.error is None) == (fact.provenance is None):
        return "Fact: expected either a provenance or an error"
    if fact.error is not None and fact.value is not None:
        return "Fact: a value beside an error"
    return None


FACT = checked(
    record(
        Fact,
        value=json_value(12),
        provenance=optional(choice("claimed", "cloud_confirmed", "cloud_signed", "tpm_quoted")),
        error=optional(_LINE),
    ),
    _fact_problem,
)


@dataclass(frozen=True, slots=True)
class LuksHeader:
    """Which LUKS2 header a volume has, or is to have.

    `digest` is over all of it. `volume_key` stays the same while the agent changes key slots, which
    `changing` says is under way; it is None where the header is damaged or not of its kind.
    """

    digest: bytes
    volume_key: bytes | None
    changing: bool

    def allows(self, found: "LuksHeader") -> bool:
        """Say whether `found` may be there where this one is expected."""
        if self.changing:
            return self.volume_key is not None and found.volume_key == self.volume_key
        return found.digest == self.digest


LUKS_HEADER = record(LuksHeader, digest=_DIGEST, volume_key=optional(_DIGEST), changing=boolean)


@dataclass(frozen=True, slots=True)
class DeviceClaim:
    """What the agent wants for one device: its `key`, or a `check` of one that is open already.

    `header` is the one on its disk, as far as that can be seen.
    """

    device: str
    want: str
    lineage: bytes | None = field(repr=False)
    header: LuksHeader | None = None


DEVICE_CLAIM = record(
    DeviceClaim,
    device=_NAME,
    want=choice("key", "check", "renew"),
    lineage=optional(octets(LINEAGE_BYTES)),
    header=optional(LUKS_HEADER),
)


@dataclass(frozen=True, slots=True)
class Proof:
    """A TPM quote or a cloud's signature over the transcript; `kind` says which."""

    kind: str
    data: bytes


PROOF = record(Proof, kind=_WORD, data=octets(1, 32768))


@dataclass(frozen=True, slots=True)
class EvidenceBody:
    """The agent's evidence document."""

    agent_version: str
    boot_id: str
    devices: tuple[DeviceClaim, ...]
    facts: Mapping[str, Fact]
    proofs: tuple[Proof, ...] = ()


EVIDENCE_BODY = record(
    EvidenceBody,
    agent_version=text("version", r"[0-9A-Za-z.+-]{1,32}"),
    boot_id=_UUID,
    devices=items(DEVICE_CLAIM, MAX_DEVICES, unique=attrgetter("device")),
    facts=table(_WORD, FACT, 64),
    proofs=items(PROOF, 8),
)


@dataclass(frozen=True, slots=True)
class Release:
    """The sealed second secret, and the encrypted `ReleaseBody`."""

    sealed_secret: bytes
    body: bytes


RELEASE = record(Release, sealed_secret=_SEALED_SECRET, body=_BODY)


@dataclass(frozen=True, slots=True)
class IscsiTarget:
    """Where a volume comes from when it is not local (RFC 7143)."""

    portal: str
    target: str
    lun: int


ISCSI_TARGET = record(
    IscsiTarget,
    portal=text("portal", r"[0-9A-Za-z.:\[\]-]{1,255}"),
    target=text("iSCSI name", r"[0-9A-Za-z.:-]{1,223}"),
    lun=integer(0, 16383),
)


@dataclass(frozen=True, slots=True)
class Volume:
    """What the agent needs to connect, open and mount.

    `initialise` is `if_blank` while no agent has reported a LUKS UUID yet and the administrator
    allows a blank device to be formatted; later `luks_uuid` pins the volume, and `header` the LUKS2
    header that it opens with.
    """

    source: str
    iscsi: IscsiTarget | None
    filesystem: str
    mount_point: str | None
    options: tuple[str, ...]
    read_only: bool
    initialise: str
    luks_uuid: str | None
    header: LuksHeader | None = None


VOLUME = record(
    Volume,
    source=_PATH,
    iscsi=optional(ISCSI_TARGET),
    filesystem=_WORD,
    mount_point=optional(_PATH),
    options=items(text("mount option", r"[0-9A-Za-z_.=:/@%+-]{1,128}"), 32),
    read_only=boolean,
    initialise=choice("never", "if_blank"),
    luks_uuid=optional(_UUID),
    header=optional(LUKS_HEADER),
)


@dataclass(frozen=True, slots=True)
class Grace:
    """How long a device that is open may stay so after it is denied; all in seconds.

    `period` counts from the first denial, and people on the machine may move its end by up to
    `postpone` in all.
    """

    period: int
    postpone: int


GRACE_LIMIT = 7 * 86400

GRACE = record(Grace, period=integer(1, GRACE_LIMIT), postpone=integer(0, GRACE_LIMIT))

GRACEFUL_CODES = ("policy", "rejected")
"""The denials that may leave time: in all others the key itself is not to be trusted any more."""


@dataclass(frozen=True, slots=True)
class Offline:
    """May the machine keep the key, sealed by its own TPM, for boots without a server?

    `period` are seconds and `boots` a number of boots since the release; `pcrs` are the PCRs (of
    the SHA-256 bank, in rising order) whose values then must be what they are now.
    """

    period: int
    boots: int
    pcrs: tuple[int, ...]


OFFLINE_SHORTEST = 60
OFFLINE_LIMIT = 7 * 86400
OFFLINE_BOOTS = 100
LAST_PCR = 15
"""PCRs above are for dynamic launches and debugging; software may reset them."""


def _offline_problem(offline: Offline) -> str | None:
    if not offline.pcrs:
        return "Offline: no PCR"
    if list(offline.pcrs) != sorted(offline.pcrs):
        return "Offline: the PCRs are not in rising order"
    return None


OFFLINE = checked(
    record(
        Offline,
        period=integer(OFFLINE_SHORTEST, OFFLINE_LIMIT),
        boots=integer(1, OFFLINE_BOOTS),
        pcrs=items(integer(0, LAST_PCR), LAST_PCR + 1, unique=int),
    ),
    _offline_problem,
)


@dataclass(frozen=True, slots=True)
class Successor:
    """The key that is to replace the present one, and its version."""

    version: int
    key: bytes | None = field(repr=False)


SUCCESSOR = record(Successor, version=_KEY_VERSION, key=optional(octets(DEVICE_KEY_BYTES)))


@dataclass(frozen=True, slots=True)
class DeviceDecision:
    """The outcome for one device; `key`, `lineage` and `volume` only when granted.

    `code` says why in a closed word: `approved`, `checked`, `approval_required`, `delayed`,
    `policy`, `rejected`, `revoked`, `disabled`, `quarantined`, `header_changed`, `unknown_device`,
    `unavailable`.
    A granted `check` has the code `checked` and carries no key. `grace` is for a device that is
    open; without one, a denial holds at once. `offline` and `successor` go with a grant alone, and
    the successor's key with a key alone.
    """

    device: str
    outcome: str
    code: str
    request_id: str | None
    retry_after: int | None
    key: bytes | None = field(repr=False)
    key_version: int | None
    lineage: bytes | None = field(repr=False)
    volume: Volume | None
    grace: Grace | None = None
    offline: Offline | None = None
    successor: Successor | None = None


DECISION_CODES = (
    "approved",
    "checked",
    "approval_required",
    "delayed",
    "policy",
    "rejected",
    "revoked",
    "disabled",
    "quarantined",
    "header_changed",
    "unknown_device",
    "unavailable",
)


def _decision_problem(decision: DeviceDecision) -> str | None:
    return _key_problem(decision) or _time_problem(decision) or _successor_problem(decision)


def _key_problem(decision: DeviceDecision) -> str | None:
    granted = decision.outcome == "granted"
    if granted != (decision.code in ("approved", "checked")):
        return "DeviceDecision: the code contradicts the outcome"
    if (decision.key is not None) != (decision.code == "approved"):
        return "DeviceDecision: a key without approval, or an approval without a key"
    if decision.key is not None and (decision.key_version is None or decision.volume is None):
        return "DeviceDecision: a key without its version and volume"
    if not granted and (decision.lineage is not None or decision.volume is not None):
        return "DeviceDecision: a lineage value or volume without a grant"
    return None


def _time_problem(decision: DeviceDecision) -> str | None:
    if decision.grace is not None and decision.code not in GRACEFUL_CODES:
        return "DeviceDecision: a grace with a code that leaves no time"
    if decision.offline is not None and decision.outcome != "granted":
        return "DeviceDecision: a key for boots without a server, without a grant"
    return None


def _successor_problem(decision: DeviceDecision) -> str | None:
    successor = decision.successor
    if successor is None:
        return None
    if decision.outcome != "granted" or decision.key_version is None:
        return "DeviceDecision: a successor without a grant, or to no version"
    if successor.version <= decision.key_version:
        return "DeviceDecision: a successor that is not newer"
    if successor.key is not None and decision.key is None:
        return "DeviceDecision: a successor's key without the present one"
    return None


DEVICE_DECISION = checked(
    record(
        DeviceDecision,
        device=_NAME,
        outcome=choice("granted", "pending", "denied"),
        code=choice(*DECISION_CODES),
        request_id=optional(text("request id", r"[0-9a-zA-Z-]{1,64}")),
        retry_after=optional(_SECONDS),
        key=optional(octets(DEVICE_KEY_BYTES)),
        key_version=optional(_KEY_VERSION),
        lineage=optional(octets(LINEAGE_BYTES)),
        volume=optional(VOLUME),
        grace=optional(GRACE),
        offline=optional(OFFLINE),
        successor=optional(SUCCESSOR),
    ),
    _decision_problem,
)


@dataclass(frozen=True, slots=True)
class AuditHead:
    """A signed tree head of the audit log (RFC 9162, section 4.10, with our own encoding).

    `consistency` proves that the tree of `Hello.seen_audit_size` is a prefix of this one
    (RFC 9162, section 2.1.4); it is empty when that size was 0 or equal.
    """

    size: int
    root: bytes
    time: int
    signature: bytes
    consistency: tuple[bytes, ...]


AUDIT_HEAD = record(
    AuditHead,
    size=_TIME,
    root=_DIGEST,
    time=_TIME,
    signature=octets(SIGNATURE_BYTES),
    consistency=items(_DIGEST, 64),
)


@dataclass(frozen=True, slots=True)
class ReleaseBody:
    """The server's answer. `check_interval` is in seconds."""

    session_id: bytes
    decisions: tuple[DeviceDecision, ...]
    check_interval: int
    audit: AuditHead
    ack_token: bytes


RELEASE_BODY = record(
    ReleaseBody,
    session_id=_SESSION_ID,
    decisions=items(DEVICE_DECISION, MAX_DEVICES, unique=attrgetter("device")),
    check_interval=_SECONDS,
    audit=AUDIT_HEAD,
    ack_token=_TOKEN,
)


@dataclass(frozen=True, slots=True)
class AckResult:
    """What became of one device on the machine; `detail` is one line without secrets.

    `header` is the one that the volume was opened with, or has after a change by the agent; with
    `failed`, the one that was found.
    """

    device: str
    key_version: int
    result: str
    luks_uuid: str | None
    initialised: bool
    detail: str
    header: LuksHeader | None = None


ACK_RESULT = record(
    AckResult,
    device=_NAME,
    key_version=_KEY_VERSION,
    result=choice(
        "mounted",
        "opened",
        "verified",
        "checked",
        "grace",
        "offline",
        "suspended",
        "closed",
        "failed",
    ),
    luks_uuid=optional(_UUID),
    initialised=boolean,
    detail=_LINE,
    header=optional(LUKS_HEADER),
)


@dataclass(frozen=True, slots=True)
class Ack:
    """Tells what was opened, mounted, suspended or closed; makes a granted key *delivered*."""

    session_id: bytes
    ack_token: bytes
    results: tuple[AckResult, ...]


ACK = record(
    Ack,
    session_id=_SESSION_ID,
    ack_token=_TOKEN,
    results=items(ACK_RESULT, MAX_DEVICES, unique=attrgetter("device")),
)


@dataclass(frozen=True, slots=True)
class Receipt:
    """The server has recorded the ack. Of the devices in `copies` it lacks the LUKS header."""

    session_id: bytes
    copies: tuple[str, ...] = ()


RECEIPT = record(Receipt, session_id=_SESSION_ID, copies=_DEVICES)


@dataclass(frozen=True, slots=True)
class Copy:
    """A device's LUKS header: the octets that `LuksHeader.digest` is over. It opens nothing."""

    session_id: bytes
    ack_token: bytes
    device: str
    header: bytes = field(repr=False)


COPY = record(
    Copy,
    session_id=_SESSION_ID,
    ack_token=_TOKEN,
    device=_NAME,
    header=octets(1, MAX_HEADER_BYTES),
)


@dataclass(frozen=True, slots=True)
class Kept:
    """The server has the copy."""

    session_id: bytes


KEPT = record(Kept, session_id=_SESSION_ID)


@dataclass(frozen=True, slots=True)
class Wait:
    """Asks to be told of a check; the token is the one of the last Release."""

    session_id: bytes
    ack_token: bytes


WAIT = record(Wait, session_id=_SESSION_ID, ack_token=_TOKEN)


@dataclass(frozen=True, slots=True)
class Wake:
    """Ends a Wait; `check` says whether somebody asked for a check since that exchange's Hello."""

    session_id: bytes
    check: bool


WAKE = record(Wake, session_id=_SESSION_ID, check=boolean)
