"""Which LUKS2 header each device opens with. Known of no device before its next release."""

STATEMENTS = """
ALTER TABLE device_states ADD COLUMN header {octets};
ALTER TABLE device_states ADD COLUMN volume_key {octets};
ALTER TABLE device_states ADD COLUMN header_changing BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE device_states ADD COLUMN header_refused {octets};
ALTER TABLE device_states ADD COLUMN volume_key_refused {octets};
"""
