"""What is kept of an exchange's evidence, so that drafts of policies can be replayed on it."""

import hashlib
import json

from securecloud_protocol.server import OpenedEvidence

from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.records import Sighting
from securecloud_server.services.exchange_decision import Verdict
from securecloud_server.services.exchange_evidence import EvidenceDocument


class KeptEvidence:
    """The evidence of one exchange as it goes into the database, for each of its devices.

    The document is put into its final form here, before the transaction begins.
    """

    def __init__(self, evidence: EvidenceDocument, opened: OpenedEvidence, history: int) -> None:
        self._evidence = evidence
        self._opened = opened
        self._history = history
        self._body = json.dumps(
            evidence.document(), sort_keys=True, separators=(",", ":"), ensure_ascii=False
        )
        self._digest = hashlib.sha256(self._body.encode()).digest()

    def store(self, tx: Transaction, verdict: Verdict, seq: int) -> None:
        """Keep it for the verdict's device; `seq` is the audit event of the verdict.

        What a quarantined machine says is not kept: it may be a copy of the one that we knew.
        """
        if verdict.code == "quarantined":
            return
        case = verdict.case
        sighting = Sighting(
            device_id=case.view.device.device_id,
            seq=seq,
            digest=self._digest,
            agent_id=self._opened.agent_id,
            first_at=case.now,
            last_at=case.now,
            session_id=self._opened.session_id,
            request_id=verdict.request.request_id if verdict.request else None,
            outcome=verdict.outcome,
            code=verdict.code,
            boot_id=case.boot_id,
            circumstances=self._evidence.circumstances(case.view),
        )
        tx.evidence.keep(sighting, self._body, self._history)
