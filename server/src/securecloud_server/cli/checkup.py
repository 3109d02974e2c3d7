"""The checks behind `doctor`. Each ends in one sentence, also when it fails."""

import ssl
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from securecloud_server.domain.errors import DomainError
from securecloud_server.settings import Settings, load_settings

if TYPE_CHECKING:
    from cryptography import x509

_RENEW = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found."""

    name: str
    ok: bool
    message: str


class _Wrong(Exception):
    """A check failed; the message says what to do."""


def examine(config: Path) -> list[Finding]:
    """Run all checks, or only the first when there are no settings to check by."""
    try:
        settings = load_settings(config)
    except DomainError as error:
        return [Finding("configuration", False, str(error))]
    checks: list[tuple[str, Callable[[Settings], str]]] = [
        ("permissions", _permissions),
        ("certificate", _certificate),
        ("time zones", _time_zones),
        ("database", _database),
        ("audit log", _audit_log),
    ]
    first = Finding("configuration", True, f"{config} is valid")
    return [first, *(_found(name, check, settings) for name, check in checks)]


def _found(name: str, check: Callable[[Settings], str], settings: Settings) -> Finding:
    try:
        return Finding(name, True, check(settings))
    except (_Wrong, DomainError) as error:
        return Finding(name, False, str(error))
    except OSError as error:
        return Finding(name, False, f"{error.filename}: {error.strerror}")


def _permissions(settings: Settings) -> str:
    for path in _secret_files(settings):
        if path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise _Wrong(f"{path} is open to others; chmod 0600 {path}")
    return "secret files are private"


def _secret_files(settings: Settings) -> Iterator[Path]:
    yield Path(settings.server.tls_key)
    for source in (settings.keystore.master_key, settings.keystore.previous_master_key):
        scheme, _, key = source.partition(":")
        if scheme == "file" or (scheme == "shares" and Path(key).exists()):
            yield Path(key)
    if settings.keystore.type == "kmip":
        yield Path(settings.kmip.key)


def _certificate(settings: Settings) -> str:
    from cryptography import x509

    server = settings.server
    try:
        leaf = x509.load_pem_x509_certificates(Path(server.tls_certificate).read_bytes())[0]
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
            server.tls_certificate, server.tls_key
        )
    except ValueError:
        raise _Wrong(f"{server.tls_certificate} holds no certificate in PEM form") from None
    except ssl.SSLError as error:
        reason = error.reason or "OpenSSL refuses them"
        raise _Wrong(f"certificate and key do not go together: {reason}") from None
    host = urlsplit(server.public_url).hostname or ""
    if host not in _names(leaf):
        raise _Wrong(f"{server.tls_certificate} is not for {host}, the host of server.public_url")
    return _validity(leaf)


def _names(leaf: "x509.Certificate") -> set[str]:
    from cryptography import x509

    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return set()
    addresses = names.get_values_for_type(x509.IPAddress)
    return {*names.get_values_for_type(x509.DNSName), *(str(address) for address in addresses)}


def _validity(leaf: "x509.Certificate") -> str:
    now = datetime.now(UTC)
    end = leaf.not_valid_after_utc
    if now < leaf.not_valid_before_utc:
        raise _Wrong(f"the certificate is not valid before {leaf.not_valid_before_utc:%Y-%m-%d}")
    if now > end:
        raise _Wrong(f"the certificate ended on {end:%Y-%m-%d}")
    if now > end - _RENEW:
        raise _Wrong(f"the certificate ends on {end:%Y-%m-%d}: renew it, then send SIGHUP")
    return f"valid until {end:%Y-%m-%d}"


def _time_zones(_settings: Settings) -> str:
    try:
        ZoneInfo("Europe/Berlin")
    except KeyError:
        raise _Wrong("no time zone database; install tzdata") from None
    return "the time zone database is there"


def _database(settings: Settings) -> str:
    from securecloud_server import app

    application = app.build(settings)
    try:
        application.database.check()
        application.keystores.active.check()
        version = application.database.schema_version()
        kind = application.database.kind
    finally:
        application.close()
    return f"{kind}, schema version {version}, writable; keystore and identity open"


def _audit_log(settings: Settings) -> str:
    from securecloud_server import installation

    report = installation.verify_audit_log(settings)
    if not report.verified:
        raise _Wrong(f"damaged: {report.problem}")
    return f"verified, {report.events} events"
