"""Keys on their way to people, and which tokens may be in one person's hands.

Nobody wrote down who minted the tokens that are there: they all have the origin of the empty name.
"""

STATEMENTS = """
CREATE TABLE key_exports (
    export_id {text} NOT NULL PRIMARY KEY,
    device_id {text} NOT NULL,
    device {text} NOT NULL,
    key_version {integer} NOT NULL,
    recipient {text} NOT NULL,
    state {text} NOT NULL CHECK
        (state IN ('pending', 'granted', 'denied', 'collected', 'expired')),
    requested_by {text} NOT NULL,
    requester_id {text} NOT NULL,
    requester_origin {text} NOT NULL,
    reason {text} NOT NULL,
    created_at {integer} NOT NULL,
    expires_at {integer} NOT NULL,
    decided_by {text},
    decided_reason {text},
    decided_at {integer},
    collected_at {integer}
);
CREATE INDEX key_exports_device ON key_exports (device, export_id);
CREATE INDEX key_exports_state ON key_exports (state, export_id);
CREATE INDEX key_exports_created_at ON key_exports (created_at);
ALTER TABLE api_tokens ADD COLUMN origin {text} NOT NULL DEFAULT '';
"""
