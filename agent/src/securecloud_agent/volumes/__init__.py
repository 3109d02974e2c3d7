"""Encrypted volumes: what lies on a source, LUKS2 through cryptsetup, file systems and mounts."""
