"""All checks of a bundle, in order, and what they found.

Verified means: it was signed by the key that the caller named, the key also signed the tree head,
every event is a leaf of that head's tree at its place, none of the range is missing, and
everything readable follows from the leaves. The search index is not part of it (docs/audit.md).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from securecloud_protocol.encoding import b64u_decode

from securecloud_audit import leaf, manifest, merkle
from securecloud_audit.manifest import LeafDigest, Manifest, ManifestError
from securecloud_audit.merkle import ProofError, RangeVerifier, Span
from securecloud_audit.reader import Reader, Unsound, opened
from securecloud_audit.schema import EVENT_COLUMNS

MAX_FINDINGS = 20
_STEP = 100_000
_LEAF = EVENT_COLUMNS.index("leaf")

Progress = Callable[[int, int], None]
"""Is told how many events were checked, of how many."""


@dataclass(frozen=True, slots=True)
class Pin:
    """What the caller knows of the server: its fingerprint, or its public key (32 octets each)."""

    fingerprint: bytes | None = None
    public_key: bytes | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What came of it. `manifest` is None where it could not be read; `first` and `last` are times.

    `omitted` counts the findings that are not listed.
    """

    findings: tuple[str, ...]
    omitted: int
    manifest: Manifest | None
    events: int
    first: str | None
    last: str | None

    @property
    def verified(self) -> bool:
        """Whether every check held."""
        return not self.findings


@dataclass(slots=True)
class _Findings:
    listed: list[str] = field(default_factory=list)
    omitted: int = 0

    def add(self, finding: str) -> None:
        if len(self.listed) < MAX_FINDINGS:
            self.listed.append(finding)
        else:
            self.omitted += 1


def verify(path: Path, pin: Pin, progress: Progress) -> Report:
    """Check the bundle at `path`; `reader.Unreadable` when it is none."""
    return _Verification(pin, progress).run(path)


class _Verification:
    def __init__(self, pin: Pin, progress: Progress) -> None:
        self._pin = pin
        self._progress = progress
        self._findings = _Findings()
        self._manifest: Manifest | None = None
        self._events = 0
        self._first: str | None = None
        self._last: str | None = None

    def run(self, path: Path) -> Report:
        try:
            with opened(path) as bundle:
                self._check(bundle)
        except Unsound as problem:
            self._findings.add(str(problem))
        except ManifestError as problem:
            self._findings.add(f"the manifest cannot be read: {problem}")
        return Report(
            tuple(self._findings.listed),
            self._findings.omitted,
            self._manifest,
            self._events,
            self._first,
            self._last,
        )

    def _check(self, bundle: Reader) -> None:
        bundle.check_format()
        bundle.check_schema()
        bundle.check_pages()
        document, signature = bundle.manifest()
        stated = self._manifest = manifest.decode(document)
        self._check_signatures(stated, document, signature)
        self._check_events(bundle, stated)

    def _check_signatures(self, stated: Manifest, document: bytes, signature: bytes) -> None:
        self._check_signer(stated)
        try:
            manifest.check_signature(stated, document, signature)
        except ManifestError as problem:
            self._findings.add(f"the bundle is not signed by the key that it names: {problem}")
        try:
            manifest.check_head(stated)
        except ManifestError as problem:
            self._findings.add(f"the tree head is not signed by that key: {problem}")

    def _check_signer(self, stated: Manifest) -> None:
        signer = stated.fingerprint
        pin = self._pin
        if pin.fingerprint is None and pin.public_key is None:
            self._findings.add(
                f"nothing says whose this is: it names a server with fingerprint {signer}; "
                "compare that with what you were told, and give it with --fingerprint"
            )
        if pin.fingerprint is not None and pin.fingerprint != b64u_decode(signer):
            self._findings.add(f"it is of another server, with fingerprint {signer}")
        if pin.public_key is not None and pin.public_key != stated.server.signing_key:
            self._findings.add(f"it is of another server, with fingerprint {signer}")

    def _check_events(self, bundle: Reader, stated: Manifest) -> None:
        span = Span(stated.range.start, stated.range.end)
        digest = LeafDigest()
        try:
            tree = RangeVerifier(span, stated.head.size, stated.range.left, stated.range.right)
        except ProofError as problem:
            self._findings.add(str(problem))
            return
        for body in self._leaves(bundle, span):
            digest.add(body)
            tree.add(merkle.leaf_hash(body))
        try:
            tree.finish(stated.head.root)
        except ProofError as problem:
            self._findings.add(str(problem))
        if digest.digest() != stated.leaves:
            self._findings.add("the events are not those that were signed: their digest differs")

    def _leaves(self, bundle: Reader, span: Span) -> Iterator[bytes]:
        """Give the leaf of each row, and note every row that does not follow from its leaf."""
        expected, total = span.start, span.end - span.start
        for row in bundle.events():
            seq, body = row[0], row[_LEAF]
            if not expected <= seq < span.end:
                self._findings.add(
                    f"event {seq} is not of the range {span.start} to {span.end - 1}"
                )
            elif seq != expected:
                self._findings.add(_missing(expected, seq))
            expected = seq + 1
            self._check_row(row)
            self._events += 1
            if self._events % _STEP == 0:
                self._progress(self._events, total)
            yield body if type(body) is bytes else b""
        if expected < span.end:
            self._findings.add(_missing(expected, span.end))

    def _check_row(self, row: tuple[object, ...]) -> None:
        seq, body = row[0], row[_LEAF]
        if type(body) is not bytes:
            self._findings.add(f"event {seq}: its leaf is not octets")
            return
        try:
            derived = leaf.columns(body)
        except leaf.LeafError as problem:
            self._findings.add(f"event {seq}: its leaf is no event: {problem}")
            return
        if derived == row:
            moment = str(row[1])
            self._first = min(moment, self._first or moment)
            self._last = max(moment, self._last or moment)
            return
        wrong = [
            name for name, one, other in zip(EVENT_COLUMNS, row, derived, strict=True)
            if one != other
        ]  # fmt: skip
        self._findings.add(f"event {seq}: {', '.join(wrong)} does not follow from its leaf")


def _missing(start: int, end: int) -> str:
    if end == start + 1:
        return f"event {start} is missing"
    return f"events {start} to {end - 1} are missing"
