"""Keystore adapters, one file each, all behind domain.ports.Keystore."""
