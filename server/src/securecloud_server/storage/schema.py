"""The tables as they are now, for building statements. Migrations create them.

Each comes after those that it refers to.
"""

from typing import Any

from sqlalchemy import BigInteger, Boolean, Column, LargeBinary, MetaData, Table, Text

METADATA = MetaData()


def _text(name: str, *, key: bool = False) -> Column[str]:
    return Column(name, Text, primary_key=key)


def _integer(name: str, *, key: bool = False) -> Column[int]:
    return Column(name, BigInteger, primary_key=key, autoincrement=False)


def _octets(name: str, *, key: bool = False) -> Column[bytes]:
    return Column(name, LargeBinary, primary_key=key)


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean)


AGENTS = Table(
    "agents",
    METADATA,
    _text("name", key=True),
    _text("agent_id"),
    _octets("identity_key"),
    _text("state"),
    _integer("enrolled_at"),
    _integer("last_seen_at"),
    _text("last_source"),
    _text("version"),
)

CHECKS = Table(
    "checks",
    METADATA,
    _text("agent_id", key=True),
    _integer("number"),
    _integer("requested_at"),
    _integer("answered_at"),
)


def _policy_columns(*, version_key: bool) -> list[Column[Any]]:
    return [
        _text("name", key=True),
        _integer("version", key=version_key),
        _text("digest"),
        _text("text"),
        _integer("created_at"),
        _integer("updated_at"),
        _text("updated_by"),
    ]


POLICIES = Table("policies", METADATA, *_policy_columns(version_key=False))
POLICY_VERSIONS = Table("policy_versions", METADATA, *_policy_columns(version_key=True))

DEVICE_GROUPS = Table(
    "device_groups",
    METADATA,
    _text("name", key=True),
    _text("description"),
    _text("policy"),
    _integer("created_at"),
    _integer("updated_at"),
    _integer("revision"),
)

DEVICES = Table(
    "devices",
    METADATA,
    _text("name", key=True),
    _text("device_id"),
    _text("agent"),
    _text("group"),
    _text("policy"),
    _flag("enabled"),
    _text("volume"),
    _integer("created_at"),
    _integer("updated_at"),
    _integer("revision"),
)

DEVICE_STATES = Table(
    "device_states",
    METADATA,
    _text("device_id", key=True),
    _text("luks_uuid"),
    _flag("quarantined"),
    _octets("lineage"),
    _octets("lineage_next"),
    _integer("first_seen_at"),
    _integer("last_release_at"),
    _text("volume_state"),
    _integer("volume_state_at"),
    _octets("header"),
    _octets("volume_key"),
    _flag("header_changing"),
    _octets("header_refused"),
    _octets("volume_key_refused"),
    _octets("header_kept"),
)

HEADER_COPIES = Table(
    "header_copies",
    METADATA,
    _text("device_id", key=True),
    _octets("digest"),
    _octets("header"),
    _integer("kept_at"),
)

KEYS = Table(
    "keys",
    METADATA,
    _text("device_id", key=True),
    _integer("version", key=True),
    _text("state"),
    _text("keystore"),
    _octets("reference"),
    _integer("created_at"),
    _integer("activated_at"),
    _integer("deactivated_at"),
    _integer("destroyed_at"),
)

KEY_REQUESTS = Table(
    "key_requests",
    METADATA,
    _text("request_id", key=True),
    _text("device_id"),
    _text("device"),
    _text("agent"),
    _text("boot_id"),
    _integer("key_version"),
    _text("state"),
    _text("policy"),
    _integer("policy_version"),
    _flag("matched"),
    _text("failing"),
    _text("rules"),
    _text("decided_by"),
    _text("reason"),
    _integer("created_at"),
    _integer("updated_at"),
    _integer("due_at"),
    _integer("expires_at"),
    _text("transitions"),
)

KEY_EXPORTS = Table(
    "key_exports",
    METADATA,
    _text("export_id", key=True),
    _text("device_id"),
    _text("device"),
    _integer("key_version"),
    _text("recipient"),
    _text("state"),
    _text("requested_by"),
    _text("requester_id"),
    _text("requester_origin"),
    _text("reason"),
    _integer("created_at"),
    _integer("expires_at"),
    _text("decided_by"),
    _text("decided_reason"),
    _integer("decided_at"),
    _integer("collected_at"),
    _text("decider_id"),
)

EVIDENCE_DOCUMENTS = Table(
    "evidence_documents",
    METADATA,
    _octets("digest", key=True),
    _text("body"),
)

EVIDENCE = Table(
    "evidence",
    METADATA,
    _text("device_id", key=True),
    _integer("seq", key=True),
    _octets("digest"),
    _text("agent_id"),
    _integer("first_at"),
    _integer("last_at"),
    _octets("session_id"),
    _text("request_id"),
    _text("outcome"),
    _text("code"),
    _text("boot_id"),
    _text("circumstances"),
)

SESSIONS = Table(
    "sessions",
    METADATA,
    _octets("session_id", key=True),
    _text("agent_id"),
    _integer("expires_at"),
    _integer("acked_at"),
)

API_TOKENS = Table(
    "api_tokens",
    METADATA,
    _text("token_id", key=True),
    _text("name"),
    _text("role"),
    _octets("secret_hash"),
    _integer("created_at"),
    _integer("expires_at"),
    _integer("revoked_at"),
    _text("origin"),
)

ENROLMENT_TOKENS = Table(
    "enrolment_tokens",
    METADATA,
    _text("token_id", key=True),
    _text("agent_name"),
    _octets("secret_hash"),
    _integer("created_at"),
    _integer("expires_at"),
    _integer("used_at"),
    _octets("used_by"),
    _integer("revoked_at"),
)

AUDIT_EVENTS = Table(
    "audit_events",
    METADATA,
    _integer("seq", key=True),
    _integer("at"),
    _text("actor"),
    _text("action"),
    _text("object"),
    _text("outcome"),
    _octets("body"),
)

AUDIT_NODES = Table(
    "audit_nodes",
    METADATA,
    _integer("level", key=True),
    _integer("idx", key=True),
    _octets("hash"),
)

AUDIT_HEAD = Table(
    "audit_head",
    METADATA,
    _integer("id", key=True),
    _integer("size"),
    _octets("frontier"),
    _octets("root"),
    _integer("at"),
    _octets("signature"),
)

SERVER_IDENTITY = Table(
    "server_identity",
    METADATA,
    _integer("id", key=True),
    _text("server_id"),
    _octets("wrapped"),
    _integer("created_at"),
)

PROBE = Table("probe", METADATA, _integer("id", key=True), _integer("at"))
