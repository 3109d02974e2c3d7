"""Verifies evidence bundles of a SecureCloud management server, offline and without trusting it."""

__version__ = "0.1.0"
