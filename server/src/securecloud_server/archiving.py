"""Retention: old audit events leave the database for an evidence bundle that was verified."""

import time
from pathlib import Path

from securecloud_audit.manifest import Manifest
from securecloud_audit.merkle import Span
from securecloud_audit.verify import Pin, verify

from securecloud_server.app import build
from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.ports import Clock
from securecloud_server.domain.records import Actor
from securecloud_server.settings import Settings
from securecloud_server.storage import archive
from securecloud_server.storage.bundle import Author, Progress, write_bundle


class Archiving:
    """The steps, in the order in which they are to be done; `close` it."""

    def __init__(self, settings: Settings, clock: Clock = time.time) -> None:
        self._application = build(settings, clock=clock)
        self._clock = clock

    def close(self) -> None:
        """Close the database."""
        self._application.close()

    def older_than(self, before: int) -> Span:
        """Return the events of before that moment (milliseconds) that are in no archive yet."""
        return archive.older_than(self._application.database, before)

    def write(self, path: Path, span: Span, progress: Progress) -> Manifest:
        """Write a bundle of these events to `path`, an empty file, and verify it as an auditor
        would: soon there will be no other copy.
        """
        responder = self._application.responder
        author = Author(responder.identity, responder.sign_audit_bundle, int(self._clock()))
        manifest = write_bundle(self._application.database, path, span, author, progress)
        report = verify(path, Pin(public_key=responder.identity.signing_key), progress)
        if not report.verified:
            raise Unavailable(f"the archive does not verify: {'; '.join(report.findings)}")
        return manifest

    def record(self, actor: Actor, manifest: Manifest, file: str) -> None:
        """Write into the audit log what is in `file`, which is on disk under that name."""
        span = Span(manifest.range.start, manifest.range.end)
        archived = archive.Archive(span, manifest.leaves, file)
        archive.record(self._application.database, actor, archived)

    def remove(self, progress: Progress) -> int:
        """Remove from the database what the log says is archived; return how many events."""
        return archive.remove_archived(self._application.database, progress)
