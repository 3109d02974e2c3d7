"""What is in the file of a bundle, word by word: nothing else may be.

The texts are those that SQLite keeps in `sqlite_master`, so a verifier compares them and need not
understand SQL. The shadow tables of the search index are written as SQLite itself makes them.
"""

from typing import NamedTuple

APPLICATION_ID = 0x53434142
"""`PRAGMA application_id`: "SCAB"."""

EVENT_COLUMNS = (
    "seq",
    "time",
    "actor",
    "role",
    "source",
    "action",
    "object",
    "outcome",
    "reason",
    "device",
    "request_id",
    "session_id",
    "details",
    "leaf",
)

SEARCHED = ("actor", "source", "action", "object", "reason", "details")

EVENTS = """CREATE TABLE events (
  seq INTEGER PRIMARY KEY,
  time TEXT NOT NULL,
  actor TEXT NOT NULL,
  role TEXT,
  source TEXT,
  action TEXT NOT NULL,
  object TEXT NOT NULL,
  outcome TEXT NOT NULL,
  reason TEXT NOT NULL,
  device TEXT,
  request_id TEXT,
  session_id TEXT,
  details TEXT NOT NULL,
  leaf BLOB NOT NULL
) STRICT"""

MANIFEST = """CREATE TABLE manifest (
  id INTEGER PRIMARY KEY,
  document TEXT NOT NULL,
  signature BLOB NOT NULL
) STRICT"""

SEARCH = f"""CREATE VIRTUAL TABLE events_fts USING FTS5 (
  {", ".join(SEARCHED)}, content=[events], content_rowid=seq
)"""

INDEXED = ("actor", "device", "request_id", "session_id")


def _counting(name: str, key: str, events: str = "events") -> str:
    return f"""CREATE VIEW {name} AS SELECT
  {key},
  count(*) AS events,
  sum(outcome = 'refused') AS refused,
  sum(outcome = 'failed') AS failed,
  min(time) AS first,
  max(time) AS last
FROM {events} GROUP BY 1"""  # noqa: S608 - constants


VIEWS = {
    "by_actor": _counting("by_actor", "actor"),
    "by_device": _counting("by_device", "device", "events WHERE device IS NOT NULL"),
    "by_day": _counting("by_day", "substr(time, 1, 10) AS day"),
    "refused_or_failed": """CREATE VIEW refused_or_failed AS SELECT
  seq, time, actor, source, action, object, outcome, reason, details
FROM events WHERE outcome IN ('refused', 'failed')""",
    "tree_head": """CREATE VIEW tree_head AS SELECT
  json_extract(document, '$.server.server_id') AS server_id,
  json_extract(document, '$.fingerprint') AS fingerprint,
  json_extract(document, '$.head.size') AS size,
  json_extract(document, '$.head.root') AS root,
  datetime(json_extract(document, '$.head.time'), 'unixepoch') AS signed_at,
  json_extract(document, '$.range.start') AS first_event,
  json_extract(document, '$.range.end') AS end_of_events
FROM manifest""",
}

INDEXES = {
    f"events_by_{column}": f"CREATE INDEX events_by_{column} ON events ({column})"
    for column in INDEXED
}

_SHADOWS = {
    "events_fts_config": "CREATE TABLE 'events_fts_config'(k PRIMARY KEY, v) WITHOUT ROWID",
    "events_fts_data": "CREATE TABLE 'events_fts_data'(id INTEGER PRIMARY KEY, block BLOB)",
    "events_fts_docsize": "CREATE TABLE 'events_fts_docsize'(id INTEGER PRIMARY KEY, sz BLOB)",
    "events_fts_idx": (
        "CREATE TABLE 'events_fts_idx'(segid, term, pgno, PRIMARY KEY(segid, term)) WITHOUT ROWID"
    ),
}


class Entry(NamedTuple):
    """A row of `sqlite_master`."""

    type: str
    name: str
    table: str
    sql: str | None


SCHEMA: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry("table", "events", "events", EVENTS),
        Entry("table", "manifest", "manifest", MANIFEST),
        Entry("table", "events_fts", "events_fts", SEARCH),
        *(Entry("table", name, name, sql) for name, sql in _SHADOWS.items()),
        *(Entry("view", name, name, sql) for name, sql in VIEWS.items()),
        *(Entry("index", name, "events", sql) for name, sql in INDEXES.items()),
    )
}
