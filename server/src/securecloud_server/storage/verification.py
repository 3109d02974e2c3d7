"""Recomputes the whole audit log from its bodies and compares all that is stored beside them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from securecloud_audit import merkle
from securecloud_audit.leaf import LeafError
from securecloud_audit.merkle import Frontier, Node
from sqlalchemy import bindparam, func, select

from securecloud_server.domain.errors import Unavailable
from securecloud_server.storage import archive
from securecloud_server.storage.audit import row_of_body, unpack_frontier
from securecloud_server.storage.database import SqlDatabase
from securecloud_server.storage.runner import Row, Runner
from securecloud_server.storage.schema import AUDIT_EVENTS, AUDIT_HEAD, AUDIT_NODES

SignatureCheck = Callable[[int, bytes, int, bytes], None]
"""Raises unless a head's signature holds: (size, root, time, signature)."""

_EVENTS = (
    select(AUDIT_EVENTS)
    .where(AUDIT_EVENTS.c.seq >= bindparam("start"))
    .order_by(AUDIT_EVENTS.c.seq)
    .limit(bindparam("limit"))
)
_NODES = (
    select(AUDIT_NODES)
    .where(AUDIT_NODES.c.level == bindparam("level"), AUDIT_NODES.c.idx >= bindparam("start"))
    .order_by(AUDIT_NODES.c.idx)
    .limit(bindparam("limit"))
)
_FIRST = select(func.min(AUDIT_EVENTS.c.seq))
_COUNT_NODES = select(func.count()).select_from(AUDIT_NODES)
_HEAD = select(AUDIT_HEAD).where(AUDIT_HEAD.c.id == 1)


class _Damaged(Exception):
    """The log is not what its own hashes say."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """The result; `problem` says where the first damage is. `size` and `root` are the head's.

    `events` were verified, of which only the hashes of the first `archived` are still here.
    """

    verified: bool
    size: int
    root: bytes
    events: int
    archived: int
    problem: str | None


def verify_audit(database: SqlDatabase, check_signature: SignatureCheck) -> AuditReport:
    """Verify events, columns, tree nodes, head and signature, in memory that does not grow."""
    with database.read() as transaction:
        runner = transaction.runner
        head = runner.row(_HEAD)
        size, root = (head[1], bytes(head[3])) if head else (0, merkle.root(()))
        walk = _Walk(runner)
        try:
            walk.events()
            walk.compare(head, check_signature)
        except _Damaged as damage:
            return AuditReport(False, size, root, walk.size, walk.archived, str(damage))
        return AuditReport(True, size, root, walk.size, walk.archived, None)


def _end_of(seq: int, body: bytes) -> int:
    try:
        return archive.archived_until(seq, body)
    except Unavailable as error:
        raise _Damaged(str(error)) from None


class _Walk:
    """Goes through the log once, building the tree anew."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._nodes: list[Iterator[Row]] = []
        self._node_count = 0
        self._frontier: Frontier = ()
        self._archived_until = 0
        self.archived = 0
        self.size = 0

    def events(self) -> None:
        self.archived = kept = self._runner.rows(_FIRST)[0][0] or 0
        self._archived_leaves(kept)
        for row in self._runner.stream(_EVENTS, {}, key=0):
            self._event(row)
        if kept > self._archived_until:
            raise _Damaged(f"events before {kept} are missing, and were not archived")

    def _archived_leaves(self, end: int) -> None:
        """Go through what is in archives by now: the tree's leaves stand for it."""
        for _, seq, value in self._runner.stream(_NODES, {"level": 0}, key=1):
            if seq >= end:
                return
            if seq != self.size:
                raise _Damaged(f"the tree has no leaf {self.size}")
            self._append(bytes(value))

    def _event(self, row: Row) -> None:
        seq, body = row[0], row[6]
        if seq != self.size:
            raise _Damaged(f"event {self.size} is missing")
        try:
            expected = row_of_body(body)
        except LeafError as problem:
            raise _Damaged(f"event {seq}: its body cannot be read: {problem}") from None
        if row != expected:
            raise _Damaged(f"event {seq}: its columns differ from its body")
        if row[3] == archive.ACTION:
            self._archived_until = max(self._archived_until, _end_of(seq, body))
        self._append(merkle.leaf_hash(body))

    def _append(self, leaf_hash: bytes) -> None:
        self._frontier, fresh = merkle.append(self._frontier, self.size, leaf_hash)
        for node, value in fresh:
            self._node(node, value)
        self.size += 1

    def _node(self, node: Node, value: bytes) -> None:
        if node.level == len(self._nodes):
            self._nodes.append(self._runner.stream(_NODES, {"level": node.level}, key=1))
        stored = next(self._nodes[node.level], None)
        if stored is None or (stored[1], bytes(stored[2])) != (node.offset, value):
            raise _Damaged(f"the tree differs at {node} from what the events up to it hash to")
        self._node_count += 1

    def compare(self, head: Row | None, check_signature: SignatureCheck) -> None:
        if self._runner.rows(_COUNT_NODES)[0][0] != self._node_count:
            raise _Damaged("the tree has nodes that no event accounts for")
        if head is None:
            if self.size:
                raise _Damaged("there are events and no signed head")
            return
        _, size, frontier, root, at, signature = head
        if size != self.size:
            raise _Damaged(f"the head signs {size} events, there are {self.size}")
        if unpack_frontier(bytes(frontier)) != self._frontier:
            raise _Damaged("the head's frontier differs from what the events hash to")
        if bytes(root) != merkle.root(self._frontier):
            raise _Damaged("the head's root differs from what the events hash to")
        try:
            check_signature(size, bytes(root), at, bytes(signature))
        except Exception as error:
            raise _Damaged(f"the head's signature does not hold: {error}") from error
