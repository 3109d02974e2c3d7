"""Copies of LUKS headers, the last one of each device."""

STATEMENTS = """
CREATE TABLE header_copies (
    device_id {text} NOT NULL PRIMARY KEY REFERENCES devices (device_id) ON DELETE CASCADE,
    digest {octets} NOT NULL,
    header {octets} NOT NULL,
    kept_at {integer} NOT NULL
);
ALTER TABLE device_states ADD COLUMN header_kept {octets};
"""
