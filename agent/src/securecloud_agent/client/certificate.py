"""An unverified look at a refused certificate, for the error message and nothing else."""

import ssl
from datetime import UTC, datetime

from securecloud_agent.client.tls import (
    EXPIRED,
    HOST_MISMATCH,
    NOT_YET_VALID,
    Deadline,
    DeadlineSocket,
    connect,
)
from securecloud_agent.decide.clock import span
from securecloud_agent.errors import printable

_LOOK_SECONDS = 3.0
_SHOWN_NAMES = 4


def look(host: str, port: int, verify_code: int, deadline: Deadline, now: int) -> str:
    """Return what the certificate at `host` says about why it was refused; empty when unknown.

    Nothing is sent on this connection, and nothing it shows is believed.
    """
    if verify_code not in {NOT_YET_VALID, EXPIRED} | HOST_MISMATCH:
        return ""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.sslsocket_class = DeadlineSocket
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with connect(host, port, context, deadline.within(_LOOK_SECONDS)) as seen:
            der = seen.getpeercert(binary_form=True)
        return _describe(der or b"", verify_code, now)
    except (OSError, ValueError):
        return ""


def _describe(der: bytes, verify_code: int, now: int) -> str:
    from cryptography import x509

    certificate = x509.load_der_x509_certificate(der)
    here = datetime.fromtimestamp(now, UTC)
    if verify_code == NOT_YET_VALID:
        begins = certificate.not_valid_before_utc
        return (
            f"valid from {begins:%Y-%m-%d %H:%M} UTC, but it is {here:%Y-%m-%d %H:%M} here:"
            f" the clock is at least {span((begins - here).total_seconds())} behind, or the"
            " certificate is wrong; check the clock (NTP)"
        )
    if verify_code == EXPIRED:
        ended = certificate.not_valid_after_utc
        return (
            f"valid until {ended:%Y-%m-%d %H:%M} UTC, but it is {here:%Y-%m-%d %H:%M} here:"
            f" renew the certificate, or the clock is {span((here - ended).total_seconds())} or"
            " more ahead; check the clock (NTP)"
        )
    return f"it names {_names(certificate)}; use one of these in agent.servers"


def _names(certificate: object) -> str:
    from cryptography import x509

    assert isinstance(certificate, x509.Certificate)
    try:
        alternative = certificate.extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        ).value
    except x509.ExtensionNotFound:
        return "nothing"
    names = [str(name.value) for name in alternative]
    return printable(", ".join(names[:_SHOWN_NAMES]), 200)
