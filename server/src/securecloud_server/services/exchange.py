"""The exchange in which an agent proves its machine's state and gets keys: protocol version 1.

Hello reads, Evidence decides and commits once, Ack confirms. A key leaves only after the decision
and its audit record are on disk.
"""

from collections.abc import Callable
from dataclasses import dataclass

from securecloud_protocol.errors import ProtocolError
from securecloud_protocol.server import OpenedHello, Responder

from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.ports import Clock, Database, RandomSource, Transaction
from securecloud_server.domain.records import Actor, Agent, AuditEvent
from securecloud_server.services.checks import last_check
from securecloud_server.services.exchange_ack import Acknowledgement
from securecloud_server.services.exchange_copies import HeaderCopies
from securecloud_server.services.exchange_identities import (
    Doorkeeper,
    Identities,
    Refusals,
    Refused,
)
from securecloud_server.services.exchange_release import Release
from securecloud_server.services.exchange_situation import (
    fact_requests,
    policy_digest,
    resolve,
)


@dataclass(frozen=True, slots=True)
class ExchangeTimes:
    """Times in seconds; see `settings.PolicySettings`."""

    session_lifetime: int = 30
    pending_retry: int = 15
    approval_lifetime: int = 3600
    check_interval: int = 300


Observer = Callable[[str, str], None]
"""Told of every decision on a device: (outcome, code)."""


Told = Callable[[str], None]
"""Told of every acknowledged device: its result."""


def _nobody(*_words: str) -> None:
    """Observe nothing."""


class ExchangeService:
    """Answers Hello, Evidence, Ack and Copy. Raises ProtocolError; `detail` is for the log only.

    `source` is always the address that the message came from. Of each device's evidence the last
    `history` documents are kept.
    """

    def __init__(
        self,
        database: Database,
        keystores: Keystores,
        responder: Responder,
        clock: Clock,
        random: RandomSource,
        times: ExchangeTimes,
        history: int,
        refusals: Refusals,
        observe: Observer = _nobody,
        acknowledged: Told = _nobody,
    ) -> None:
        self._database = database
        self._responder = responder
        self._clock = clock
        self._times = times
        self._door = Doorkeeper(database, refusals)
        self._release = Release(database, keystores, responder, random, times, history, observe)
        self._acknowledgement = Acknowledgement(database, responder, acknowledged)
        self._copies = HeaderCopies(database, responder)

    def hello(self, data: bytes, source: str) -> bytes:
        """Return the Challenge: which devices, and which facts their policies need."""
        return self._door.run("hello", source, lambda: self._hello(data, source))

    def evidence(self, data: bytes, source: str) -> bytes:
        """Return the Release: a decision on every device, with its key where granted."""
        now = int(self._clock())
        return self._door.run("evidence", source, lambda: self._release.answer(data, source, now))

    def ack(self, data: bytes, source: str) -> bytes:
        """Record what became of the keys; return the Receipt."""
        now = int(self._clock())
        return self._door.run(
            "ack", source, lambda: self._acknowledgement.answer(data, source, now)
        )

    def copy(self, data: bytes, source: str) -> bytes:
        """Keep a copy of a LUKS header; return the Kept."""
        now = int(self._clock())
        return self._door.run("copy", source, lambda: self._copies.answer(data, source, now))

    def _hello(self, data: bytes, source: str) -> bytes:
        with self._database.read() as tx:
            identities = Identities(tx, source)
            opened = self._responder.open_hello(data, identities)
            return self._challenge(tx, opened, identities.agent, source)

    def _challenge(self, tx: Transaction, opened: OpenedHello, agent: Agent, source: str) -> bytes:
        try:
            assignments = resolve(tx, agent, opened.hello.devices)
        except ProtocolError as error:
            actor = Actor("agent", agent.name, None, source)
            event = AuditEvent(
                actor, "exchange.refused", f"agent:{agent.name}", "refused", error.detail
            )
            raise Refused(error.code, event) from None
        return self._responder.challenge(
            opened,
            tuple(device.name for device, _ in assignments),
            fact_requests(assignments),
            policy_digest(assignments),
            int(self._clock()),
            self._times.session_lifetime,
            last_check(tx, agent),
        )
