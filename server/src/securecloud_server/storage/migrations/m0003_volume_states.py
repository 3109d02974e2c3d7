"""How each volume is on its machine, as far as the machine has told.

A device that ever got its key may be open: nobody wrote down whether it was closed since.
"""

STATEMENTS = """
ALTER TABLE device_states ADD COLUMN volume_state {text};
ALTER TABLE device_states ADD COLUMN volume_state_at {integer};
UPDATE device_states SET volume_state = 'released', volume_state_at = last_release_at
    WHERE last_release_at IS NOT NULL;
"""
