"""Exports of keys: by which token they were decided, not only by which name."""

STATEMENTS = """
ALTER TABLE key_exports ADD COLUMN decider_id {text};
"""
