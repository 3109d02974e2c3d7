"""Measurements of SecureCloud beside its peers, on one machine and in one run."""
