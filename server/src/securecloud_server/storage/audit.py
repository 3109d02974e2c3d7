"""The audit log: events, the nodes of their Merkle tree, and the signed head."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from securecloud_audit import leaf, merkle
from securecloud_audit.merkle import HASH_BYTES, Frontier, Node, ProofError, Span
from sqlalchemy import BindParameter, ClauseElement, and_, bindparam, insert, or_, select, update

from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.ports import Clock
from securecloud_server.domain.records import Actor, AuditEvent, LoggedEvent, TreeHead
from securecloud_server.storage.runner import Row, Runner
from securecloud_server.storage.schema import AUDIT_EVENTS, AUDIT_HEAD, AUDIT_NODES

Signer = Callable[[int, bytes, int], bytes]
"""Signs a tree head: (size, root, time in seconds) -> signature."""

_EVENT_COLUMNS = (
    AUDIT_EVENTS.c.seq,
    AUDIT_EVENTS.c.at,
    AUDIT_EVENTS.c.body,
)
_TIMES = {"since": operator.ge, "until": operator.lt}
_ANY_EVENT = select(AUDIT_EVENTS.c.seq).limit(1)
_ANY_NODE = select(AUDIT_NODES.c.level).limit(1)
_READ_HEAD = select(AUDIT_HEAD).where(AUDIT_HEAD.c.id == 1)
_INSERT_HEAD = insert(AUDIT_HEAD)
_UPDATE_HEAD = update(AUDIT_HEAD).where(AUDIT_HEAD.c.id == bindparam("where_id"))
_INSERT_EVENT = insert(AUDIT_EVENTS)
_INSERT_NODE = insert(AUDIT_NODES)


class OwnHeads:
    """Tells heads that this server signed from those that somebody wrote into the database.

    What is appended goes under the stored head, and is signed with all that is under it.
    """

    def __init__(self, sign: Signer) -> None:
        self._sign = sign
        self._last: Row | None = None
        self.seen = False
        """Whether there ever was one in the database."""

    def require(self, row: Row) -> None:
        """Raise Unavailable unless the head is ours: Ed25519 signs the same in the same way."""
        self.seen = True
        if row == self._last:
            return
        _, size, packed, root, at, signature = row
        frontier = unpack_frontier(packed)
        if (
            len(frontier) != int(size).bit_count()
            or merkle.root(frontier) != root
            or self._sign(size, root, at) != signature
        ):
            raise _foreign("its head was not signed by this server")
        self._last = row

    def made(self, row: Row) -> None:
        """Remember the head that this server just wrote; whether it is kept does not matter."""
        self._last = row


def _foreign(problem: str) -> Unavailable:
    return Unavailable(
        f"the audit log was changed by somebody else ({problem}); run securecloud-server audit"
        " verify"
    )


@dataclass(frozen=True, slots=True)
class Mark:
    """A point to which an unfinished batch can go back; one `loaded` or not at all."""

    loaded: bool
    size: int
    frontier: Frontier
    head: TreeHead | None
    events: int
    nodes: int


class SqlAuditLog:
    """`ports.AuditLog` for one database transaction.

    What is appended waits in memory until `flush`, which writes the events of all pieces of work
    of a commit at once. `page` shows what was there when the transaction began.
    """

    def __init__(self, runner: Runner, clock: Clock, sign: Signer, heads: OwnHeads) -> None:
        self._runner = runner
        self._clock = clock
        self._sign = sign
        self._heads = heads
        self._row: Row | None = None
        self._loaded = False
        self._size = 0
        self._frontier: Frontier = ()
        self._head: TreeHead | None = None
        self._events: list[dict[str, Any]] = []
        self._nodes: dict[Node, bytes] = {}

    def load(self) -> None:
        """Read the head; Unavailable when it is not one that this server goes on from."""
        self._row = row = self._runner.row(_READ_HEAD)
        if self._runner.writable:
            self._require_own()
        self._loaded = True
        if row is not None:
            _, self._size, frontier, root, at, signature = row
            self._frontier = unpack_frontier(frontier)
            self._head = TreeHead(self._size, root, at, signature)

    def _require_own(self) -> None:
        if self._row is not None:
            self._heads.require(self._row)
        elif self._heads.seen or self._runner.rows(_ANY_EVENT) or self._runner.rows(_ANY_NODE):
            raise _foreign("it has no head")

    def require_leaf(self, seq: int, body: bytes) -> None:
        """Raise Unavailable unless `body` is leaf `seq` under a head that this server signed."""
        self._ensure_loaded()
        self._require_own()
        try:
            proof = self.inclusion(seq)
            leaf_hash, root = merkle.leaf_hash(body), merkle.root(self._frontier)
            merkle.verify_inclusion(seq, self._size, leaf_hash, root, proof)
        except (ProofError, KeyError, ValueError):
            raise _foreign(f"event {seq} is not in its tree") from None

    def append(self, event: AuditEvent) -> int:
        """Append in this transaction; return the sequence number, which is the leaf's index."""
        self._ensure_loaded()
        seq, at = self._size, int(self._clock() * 1000)
        body = event_body(seq, at, event)
        self._frontier, fresh = merkle.append(self._frontier, seq, merkle.leaf_hash(body))
        self._size += 1
        self._head = None
        self._nodes.update(fresh)
        self._events.append(event_row(seq, at, body, event))
        return seq

    def size(self) -> int:
        """Return how many events there are, this transaction's included."""
        self._ensure_loaded()
        return self._size

    def head(self) -> TreeHead:
        """Return the signed head, this transaction's events included."""
        self._ensure_loaded()
        if self._head is None:
            root, at = merkle.root(self._frontier), int(self._clock())
            self._head = TreeHead(self._size, root, at, self._sign(self._size, root, at))
        return self._head

    def consistency(self, old_size: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `old_size` is a prefix of the present one."""
        self._ensure_loaded()
        spans = merkle.consistency_spans(old_size, self._size)
        hashes = self._hashes(merkle.needed_nodes(spans))
        return tuple(merkle.span_hash(span, hashes.__getitem__) for span in spans)

    def inclusion(self, seq: int) -> tuple[bytes, ...]:
        """Return the proof that event `seq` is a leaf of the present tree."""
        self._ensure_loaded()
        spans = merkle.inclusion_spans(seq, self._size)
        hashes = self._hashes(merkle.needed_nodes(spans))
        return tuple(merkle.span_hash(span, hashes.__getitem__) for span in spans)

    def range_hashes(self, span: Span) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Return the hashes of what is before and behind `span` (`merkle.range_nodes`)."""
        self._ensure_loaded()
        before, behind = merkle.range_nodes(span, self._size)
        hashes = self._hashes([*before, *behind])
        return tuple(hashes[node] for node in before), tuple(hashes[node] for node in behind)

    def page(
        self, after: int | None, limit: int, filters: Mapping[str, str | None]
    ) -> Sequence[LoggedEvent]:
        """Return events behind `after`, oldest first.

        Filters: action, object, actor, outcome (equal); since, and until, which is exclusive
        (milliseconds since 1970, decimal).
        """
        given = {name: value for name, value in filters.items() if value is not None}
        parameters: dict[str, Any] = {"limit": limit, "after": -1 if after is None else after}
        for name, value in given.items():
            parameters[f"filter_{name}"] = int(value) if name in _TIMES else value
        rows = self._runner.rows(_events_page(tuple(given)), parameters)
        return [logged_event(row) for row in rows]

    # For the unit of work

    def mark(self) -> Mark:
        """Return the present point."""
        return Mark(
            self._loaded,
            self._size,
            self._frontier,
            self._head,
            len(self._events),
            len(self._nodes),
        )

    def go_back(self, mark: Mark) -> None:
        """Forget what was appended since `mark`."""
        self._loaded = mark.loaded
        self._size, self._frontier, self._head = mark.size, mark.frontier, mark.head
        del self._events[mark.events :]
        while len(self._nodes) > mark.nodes:
            self._nodes.popitem()

    def flush(self) -> None:
        """Write events, nodes and head."""
        if not self._events:
            return
        head = self.head()
        self._runner.insert_all(_INSERT_EVENT, self._events)
        nodes = [
            {"level": node.level, "idx": node.offset, "hash": value}
            for node, value in self._nodes.items()
        ]
        self._runner.insert_all(_INSERT_NODE, nodes)
        row = {
            "id": 1,
            "size": head.size,
            "frontier": b"".join(self._frontier),
            "root": head.root,
            "at": head.at,
            "signature": head.signature,
        }
        if not self._runner.change(_UPDATE_HEAD, {**row, "where_id": 1}):
            self._runner.change(_INSERT_HEAD, row)
        self._heads.made(tuple(row.values()))

    def _ensure_loaded(self) -> None:
        if not self._loaded:
            self.load()

    def _hashes(self, nodes: Sequence[Node]) -> dict[Node, bytes]:
        known = dict(zip(merkle.cover(Span(0, self._size)), self._frontier, strict=True))
        known |= self._nodes
        missing = [node for node in nodes if node not in known]
        if missing:
            known |= self._stored(missing)
        return known

    def _stored(self, nodes: Sequence[Node]) -> dict[Node, bytes]:
        parameters = {}
        for place, node in enumerate(nodes):
            parameters[f"level_{place}"] = node.level
            parameters[f"idx_{place}"] = node.offset
        rows = self._runner.rows(_select_nodes(len(nodes)), parameters)
        return {Node(level, offset): value for level, offset, value in rows}


def event_body(seq: int, at: int, event: AuditEvent) -> bytes:
    """Return the octets of the leaf."""
    actor = event.actor
    document = {
        "seq": seq,
        "at": at,
        "actor": {
            "kind": actor.kind,
            "name": actor.name,
            "role": actor.role,
            "source": actor.source,
        },
        "action": event.action,
        "object": event.object,
        "outcome": event.outcome,
        "reason": event.reason,
        "details": dict(event.details),
    }
    return leaf.encode(document)


def event_row(seq: int, at: int, body: bytes, event: AuditEvent) -> dict[str, Any]:
    """Return the columns of an event: the body, and copies of what one searches by."""
    return {
        "seq": seq,
        "at": at,
        "actor": str(event.actor),
        "action": event.action,
        "object": event.object,
        "outcome": event.outcome,
        "body": body,
    }


def row_of_body(body: bytes) -> Row:
    """Return the row that belongs to a leaf; LeafError when that is no event."""
    event = leaf.decode(body)
    actor = event["actor"]
    return (
        event["seq"],
        event["at"],
        f"{actor['kind']}:{actor['name']}",
        event["action"],
        event["object"],
        event["outcome"],
        body,
    )


def read_body(body: bytes) -> AuditEvent:
    """Return the event in a leaf."""
    document = leaf.decode(body)
    return AuditEvent(
        actor=Actor(**document["actor"]),
        action=document["action"],
        object=document["object"],
        outcome=document["outcome"],
        reason=document["reason"],
        details=document["details"],
    )


def logged_event(row: Row) -> LoggedEvent:
    """Return the event of a row (seq, at, body)."""
    seq, at, body = row
    return LoggedEvent(seq, at, body, read_body(body))


def unpack_frontier(octets: bytes) -> Frontier:
    """Return the hashes that are kept as one column."""
    return tuple(octets[at : at + HASH_BYTES] for at in range(0, len(octets), HASH_BYTES))


@cache
def _events_page(filters: tuple[str, ...]) -> ClauseElement:
    clause = select(*_EVENT_COLUMNS).where(AUDIT_EVENTS.c.seq > bindparam("after"))
    for name in filters:
        parameter: BindParameter[Any] = bindparam(f"filter_{name}")
        if name in _TIMES:
            clause = clause.where(_TIMES[name](AUDIT_EVENTS.c.at, parameter))
        else:
            clause = clause.where(AUDIT_EVENTS.c[name] == parameter)
    return clause.order_by(AUDIT_EVENTS.c.seq).limit(bindparam("limit"))


@cache
def _select_nodes(count: int) -> ClauseElement:
    places = [
        and_(
            AUDIT_NODES.c.level == bindparam(f"level_{place}"),
            AUDIT_NODES.c.idx == bindparam(f"idx_{place}"),
        )
        for place in range(count)
    ]
    return select(AUDIT_NODES).where(or_(*places))
