"""Everything that version 0.1.0 keeps. Text keys compare by octet on either database.

`clustered` tables of SQLite are stored in their primary key: a page less to write in each release.
"""

STATEMENTS = """
CREATE TABLE agents (
    name {text} NOT NULL PRIMARY KEY,
    agent_id {text} NOT NULL UNIQUE,
    identity_key {octets} NOT NULL,
    state {text} NOT NULL CHECK (state IN ('active', 'retired')),
    enrolled_at {integer} NOT NULL,
    last_seen_at {integer},
    last_source {text},
    version {text}
){clustered};
CREATE TABLE policies (
    name {text} NOT NULL PRIMARY KEY,
    version {integer} NOT NULL,
    digest {text} NOT NULL,
    text {text} NOT NULL,
    created_at {integer} NOT NULL,
    updated_at {integer} NOT NULL,
    updated_by {text} NOT NULL
);
CREATE TABLE policy_versions (
    name {text} NOT NULL REFERENCES policies (name) ON DELETE CASCADE,
    version {integer} NOT NULL,
    digest {text} NOT NULL,
    text {text} NOT NULL,
    created_at {integer} NOT NULL,
    updated_at {integer} NOT NULL,
    updated_by {text} NOT NULL,
    PRIMARY KEY (name, version)
);
CREATE TABLE device_groups (
    name {text} NOT NULL PRIMARY KEY,
    description {text} NOT NULL,
    policy {text} REFERENCES policies (name),
    created_at {integer} NOT NULL,
    updated_at {integer} NOT NULL,
    revision {integer} NOT NULL
);
CREATE TABLE devices (
    name {text} NOT NULL PRIMARY KEY,
    device_id {text} NOT NULL UNIQUE,
    agent {text} NOT NULL,
    "group" {text} REFERENCES device_groups (name),
    policy {text} REFERENCES policies (name),
    enabled BOOLEAN NOT NULL,
    volume {text} NOT NULL,
    created_at {integer} NOT NULL,
    updated_at {integer} NOT NULL,
    revision {integer} NOT NULL
);
CREATE INDEX devices_agent ON devices (agent, name);
CREATE INDEX devices_group ON devices ("group", name);
CREATE INDEX devices_policy ON devices (policy, name);
CREATE TABLE device_states (
    device_id {text} NOT NULL PRIMARY KEY REFERENCES devices (device_id) ON DELETE CASCADE,
    luks_uuid {text},
    quarantined BOOLEAN NOT NULL,
    lineage {octets},
    lineage_next {octets},
    first_seen_at {integer},
    last_release_at {integer}
){clustered};
CREATE TABLE keys (
    device_id {text} NOT NULL REFERENCES devices (device_id) ON DELETE CASCADE,
    version {integer} NOT NULL,
    state {text} NOT NULL CHECK (state IN ('pre_active', 'active', 'deactivated', 'destroyed')),
    keystore {text} NOT NULL,
    reference {octets} NOT NULL,
    created_at {integer} NOT NULL,
    activated_at {integer},
    deactivated_at {integer},
    destroyed_at {integer},
    PRIMARY KEY (device_id, version)
){clustered};
CREATE TABLE key_requests (
    request_id {text} NOT NULL PRIMARY KEY,
    device_id {text} NOT NULL,
    device {text} NOT NULL,
    agent {text} NOT NULL,
    boot_id {text} NOT NULL,
    key_version {integer} NOT NULL,
    state {text} NOT NULL CHECK
        (state IN ('pending', 'approved', 'denied', 'delivered', 'revoked', 'expired')),
    policy {text} NOT NULL,
    policy_version {integer} NOT NULL,
    matched BOOLEAN NOT NULL,
    failing {text} NOT NULL,
    rules {text} NOT NULL,
    decided_by {text},
    reason {text} NOT NULL,
    created_at {integer} NOT NULL,
    updated_at {integer} NOT NULL,
    due_at {integer},
    expires_at {integer},
    transitions {text} NOT NULL
);
CREATE INDEX key_requests_device_id ON key_requests (device_id, request_id);
CREATE INDEX key_requests_device ON key_requests (device, request_id);
CREATE INDEX key_requests_agent ON key_requests (agent, request_id);
CREATE INDEX key_requests_state ON key_requests (state, request_id);
CREATE TABLE sessions (
    session_id {octets} NOT NULL PRIMARY KEY,
    agent_id {text} NOT NULL,
    expires_at {integer} NOT NULL,
    acked_at {integer}
){clustered};
CREATE INDEX sessions_expires_at ON sessions (expires_at);
CREATE TABLE api_tokens (
    token_id {text} NOT NULL PRIMARY KEY,
    name {text} NOT NULL,
    role {text} NOT NULL,
    secret_hash {octets} NOT NULL,
    created_at {integer} NOT NULL,
    expires_at {integer},
    revoked_at {integer}
);
CREATE TABLE enrolment_tokens (
    token_id {text} NOT NULL PRIMARY KEY,
    agent_name {text} NOT NULL,
    secret_hash {octets} NOT NULL,
    created_at {integer} NOT NULL,
    expires_at {integer} NOT NULL,
    used_at {integer},
    used_by {octets},
    revoked_at {integer}
);
CREATE INDEX enrolment_tokens_agent_name ON enrolment_tokens (agent_name, token_id);
CREATE TABLE audit_events (
    seq {integer} NOT NULL PRIMARY KEY,
    at {integer} NOT NULL,
    actor {text} NOT NULL,
    action {text} NOT NULL,
    object {text} NOT NULL,
    outcome {text} NOT NULL,
    body {octets} NOT NULL
);
CREATE INDEX audit_events_action ON audit_events (action, seq);
CREATE INDEX audit_events_object ON audit_events (object, seq);
CREATE INDEX audit_events_actor ON audit_events (actor, seq);
CREATE TABLE audit_nodes (
    level {integer} NOT NULL,
    idx {integer} NOT NULL,
    hash {octets} NOT NULL,
    PRIMARY KEY (level, idx)
){clustered};
CREATE TABLE audit_head (
    id {integer} NOT NULL PRIMARY KEY CHECK (id = 1),
    size {integer} NOT NULL,
    frontier {octets} NOT NULL,
    root {octets} NOT NULL,
    at {integer} NOT NULL,
    signature {octets} NOT NULL
);
CREATE TABLE server_identity (
    id {integer} NOT NULL PRIMARY KEY CHECK (id = 1),
    server_id {text} NOT NULL,
    wrapped {octets} NOT NULL,
    created_at {integer} NOT NULL
);
CREATE TABLE probe (
    id {integer} NOT NULL PRIMARY KEY CHECK (id = 1),
    at {integer} NOT NULL
);
INSERT INTO probe (id, at) VALUES (1, 0);
"""
