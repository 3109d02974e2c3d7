"""Puts the parts together. Nothing else chooses an adapter."""

import logging
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from flask import Flask
from securecloud_protocol.http_binding import WAIT_PATH
from securecloud_protocol.server import Responder, ServerKeys

from securecloud_server import __version__
from securecloud_server.age import AgeSealer
from securecloud_server.domain.errors import FieldError, Invalid, Unavailable
from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.ports import Clock, Keystore, RandomSource
from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.keystores.caching import CachingKeystore
from securecloud_server.keystores.local import LocalKeystore
from securecloud_server.keystores.master_key import KeyRing, load_key_ring
from securecloud_server.services.admin import Ports
from securecloud_server.services.administration import Administration, administration
from securecloud_server.services.checks import CheckWatch
from securecloud_server.services.exchange import ExchangeService, ExchangeTimes
from securecloud_server.services.exchange_enrolment import EnrolmentService
from securecloud_server.services.exchange_housekeeping import Housekeeping
from securecloud_server.services.key_cache import KeyCacheWatch
from securecloud_server.services.key_care import KeyCare
from securecloud_server.services.key_proof import KeyProof, Proof
from securecloud_server.services.rewrapping import Rewrapping
from securecloud_server.settings import Settings
from securecloud_server.storage import migrations
from securecloud_server.storage.database import (
    SqlDatabase,
    is_absent,
    make_engine,
    open_database,
)
from securecloud_server.storage.identity import load_identity, renew_identity
from securecloud_server.web.admin import About, admin_flask
from securecloud_server.web.agent_api import PREFIX, WaitingRoom, agent_api, waits
from securecloud_server.web.auth import bearer
from securecloud_server.web.http import Handler, HeldHandler, by_prefix
from securecloud_server.web.ops import Checks, Metrics, ops
from securecloud_server.web.wsgi import wsgi_handler

_LOG = logging.getLogger("securecloud.app")


@dataclass(frozen=True, slots=True)
class Application:
    """Everything that serves, wired."""

    settings: Settings
    database: SqlDatabase
    keystores: Keystores
    responder: Responder
    clock: Clock
    random: RandomSource
    metrics: Metrics
    exchange: ExchangeService
    enrolment: EnrolmentService
    housekeeping: Housekeeping
    rewrapping: Rewrapping
    key_proof: KeyProof
    key_care: KeyCare
    key_cache: CachingKeystore | None
    checks: CheckWatch
    admin: Administration

    @property
    def server_id(self) -> str:
        """Return the id that agents pin."""
        return self.responder.identity.server_id

    def upkeep(self) -> tuple[Callable[[], None], ...]:
        """Return what a serving process does every second, each on a thread of its own."""
        if self.key_cache is None:
            return ()
        return self.key_cache.expire, KeyCacheWatch(self.database, self.key_cache).look

    def close(self) -> None:
        """Give up all connections, and keys that are in memory."""
        if self.key_cache is not None:
            self.key_cache.clear()
        self.database.close()
        self.keystores.close()


def build(
    settings: Settings,
    certificates: Sequence[bytes] = (),
    *,
    clock: Clock = time.time,
    random: RandomSource = os.urandom,
) -> Application:
    """Wire an initialised server; Unavailable with the reason when it is not.

    `certificates` (DER) are those under which agents see this server: see `load_certificates`.
    Commands that answer no agents need none.
    """
    key_ring = load_key_ring(
        settings.keystore.master_key, settings.keystore.previous_master_key, random
    )
    keys = _identity(settings, key_ring)
    responder = Responder(keys, certificates, random)
    database = open_database(settings.storage.url, responder.sign_audit_head, clock)
    keystores = _keystores(settings, key_ring, random)
    metrics = Metrics()
    # What looks after keys has to see what the keystore has, not what is remembered of it.
    cache = _key_cache(settings, keystores, metrics)
    in_front = keystores if cache is None else keystores.with_instead(cache)
    rewrapping = Rewrapping(database, keystores, partial(_renew_identity, settings, key_ring))
    proof = KeyProof(database, keystores)
    admin = administration(
        Ports(database, clock, random),
        in_front,
        keystores,
        AgeSealer(),
        responder.fingerprint,
        settings.policy.approval_lifetime,
    )
    return Application(
        settings=settings,
        database=database,
        keystores=keystores,
        responder=responder,
        clock=clock,
        random=random,
        metrics=metrics,
        exchange=ExchangeService(
            database,
            in_front,
            responder,
            clock,
            random,
            exchange_times(settings),
            settings.evidence.history,
            admin.refusals,
            metrics.decision,
            metrics.acknowledged,
        ),
        enrolment=EnrolmentService(database, responder, clock, random, admin.refusals),
        housekeeping=Housekeeping(database, clock, settings.evidence.days),
        rewrapping=rewrapping,
        key_proof=proof,
        key_care=KeyCare(rewrapping, proof, clock, partial(_proven, metrics)),
        key_cache=cache,
        checks=CheckWatch(database),
        admin=admin,
    )


def _keystores(settings: Settings, key_ring: KeyRing, random: RandomSource) -> Keystores:
    """Return all that are configured: keys are moved while both kinds are."""
    local = LocalKeystore(key_ring, random)
    if not settings.kmip.server:
        return Keystores(local)
    kmip = _kmip(settings, random)
    if settings.keystore.type == "kmip":
        return Keystores(kmip, (local,))
    return Keystores(local, (kmip,))


def _kmip(settings: Settings, random: RandomSource) -> Keystore:
    from securecloud_server.keystores.kmip import KmipKeystore  # noqa: PLC0415 - slow to load
    from securecloud_server.keystores.kmip_link import (  # noqa: PLC0415 - slow to load
        client_context,
        connector,
    )

    kmip = settings.kmip
    context = client_context(kmip.ca_file, kmip.certificate, kmip.key)
    return KmipKeystore(connector(*kmip.host_and_port, context, kmip.timeout), random)


def _key_cache(
    settings: Settings, keystores: Keystores, metrics: Metrics
) -> CachingKeystore | None:
    """Return what is put in front of the KMIP server where the settings want that."""
    if not settings.kmip.cache or not settings.kmip.server:
        return None
    kmip = keystores.named("kmip")
    return CachingKeystore(kmip, settings.kmip.cache, changed=metrics.kept_keys)


def exchange_times(settings: Settings) -> ExchangeTimes:
    """Return the times of the exchange."""
    policy = settings.policy
    return ExchangeTimes(
        session_lifetime=policy.session_lifetime,
        pending_retry=policy.pending_retry,
        approval_lifetime=policy.approval_lifetime,
        check_interval=policy.check_interval,
    )


def handler(application: Application) -> Handler:
    """Return what answers every request: the agent API, and beside it what Flask serves."""
    agents = agent_api(application.exchange, application.enrolment, application.metrics)
    return by_prefix(PREFIX, agents, wsgi_handler(web(application)))


def waiting_room(application: Application, capacity: int) -> WaitingRoom:
    """Return the room in which up to `capacity` agents wait to be told of a check."""
    return WaitingRoom(capacity, random.random, application.metrics.waiting)


def held(application: Application, room: WaitingRoom) -> Mapping[str, HeldHandler]:
    """Return, by path, what answers on the event loop when it has something to say."""
    return {WAIT_PATH: waits(application.responder, room, application.metrics, application.clock)}


def web(application: Application) -> Flask:
    """Return the WSGI application: admin API, health and metrics."""
    flask = admin_flask(application.admin, partial(_about, application))
    metrics = application.metrics
    checks = {
        "database": application.database.check,
        "keystore": application.keystores.active.check,
    }
    flask.register_blueprint(
        ops(Checks(checks, application.clock), metrics.render, _metrics_guard(application))
    )
    return flask


def _about(application: Application) -> About:
    database, keystore = application.database, application.keystores.active
    try:
        keystore.check()
        state = "ready"
    except Unavailable as error:
        state = str(error)
    return About(
        version=__version__,
        server_id=application.server_id,
        fingerprint=application.responder.fingerprint,
        now=int(application.clock()),
        keystore=keystore.name,
        keystore_state=state,
        storage=database.kind,
        schema_version=database.schema_version(),
    )


def _metrics_guard(application: Application) -> Callable[[str | None], None]:
    def guard(authorization: str | None) -> None:
        if not application.settings.server.metrics_public:
            actor = application.admin.api_tokens.authenticate(bearer(authorization), None)
            authorize(actor, Privilege.READ_AUDIT)

    return guard


def load_certificates(path: str) -> list[bytes]:
    """Return the leaf certificate (DER) of a PEM file, as TLS shows it to agents."""
    try:
        leaf = x509.load_pem_x509_certificates(Path(path).read_bytes())[0]
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise Invalid([FieldError("server.tls_certificate", "a readable file", message)]) from None
    except ValueError:
        message = f"{path} holds no certificate in PEM form"
        raise Invalid([FieldError("server.tls_certificate", "PEM", message)]) from None
    return [leaf.public_bytes(Encoding.DER)]


def _identity(settings: Settings, key_ring: KeyRing) -> ServerKeys:
    if is_absent(settings.storage.url):
        raise Unavailable("there is no database; run securecloud-server init")
    engine = make_engine(settings.storage.url)
    try:
        version = migrations.schema_version(engine)
        if version != migrations.LATEST:
            raise Unavailable(
                f"the database has schema version {version}, this server needs "
                f"{migrations.LATEST}; run securecloud-server db upgrade"
            )
        keys = load_identity(engine, key_ring)
    finally:
        engine.dispose()
    if keys is None:
        raise Unavailable("the server has no identity; run securecloud-server init")
    return keys


def _renew_identity(settings: Settings, key_ring: KeyRing, check: bool) -> bool:
    engine = make_engine(settings.storage.url)
    try:
        return renew_identity(engine, key_ring, check=check)
    finally:
        engine.dispose()


def _proven(metrics: Metrics, proof: Proof) -> None:
    metrics.unavailable_keys(len(proof.failed))
    for device, reason in proof.failed.items():
        _LOG.error("a key cannot be fetched", extra={"device": device, "cause": reason})
