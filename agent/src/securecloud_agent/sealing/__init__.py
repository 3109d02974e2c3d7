"""Keeps device keys for boots without a server: sealed by the machine's TPM, in no other form."""
