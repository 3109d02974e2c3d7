"""What machines said about themselves: documents, each once, and who showed which of them when.

A sighting is rewritten by every exchange and therefore small; no index holds what changes in it.
"""

STATEMENTS = """
CREATE TABLE evidence_documents (
    digest {octets} NOT NULL PRIMARY KEY,
    body {text} NOT NULL
);
CREATE TABLE evidence (
    device_id {text} NOT NULL REFERENCES devices (device_id) ON DELETE CASCADE,
    seq {integer} NOT NULL,
    digest {octets} NOT NULL REFERENCES evidence_documents (digest),
    agent_id {text} NOT NULL,
    first_at {integer} NOT NULL,
    last_at {integer} NOT NULL,
    session_id {octets} NOT NULL,
    request_id {text},
    outcome {text} NOT NULL,
    code {text} NOT NULL,
    boot_id {text} NOT NULL,
    circumstances {text} NOT NULL,
    PRIMARY KEY (device_id, seq)
){clustered};
CREATE INDEX evidence_digest ON evidence (digest);
"""
