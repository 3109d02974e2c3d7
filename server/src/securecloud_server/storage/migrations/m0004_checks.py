"""Checks that somebody asked for, one row for each agent of which one ever was.

Beside the table of agents, whose rows every exchange rewrites with all of their indexes.
"""

STATEMENTS = """
CREATE TABLE checks (
    agent_id {text} NOT NULL PRIMARY KEY,
    number {integer} NOT NULL,
    requested_at {integer} NOT NULL,
    answered_at {integer}
){clustered};
CREATE INDEX checks_number ON checks (number);
"""
