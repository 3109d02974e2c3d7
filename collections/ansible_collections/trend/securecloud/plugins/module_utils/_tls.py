# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS towards the management server, and what its failures mean. Private to this collection."""

from __future__ import annotations

import datetime
import socket
import ssl

from ansible_collections.trend.securecloud.plugins.module_utils._errors import (
    CertificateNotValidNow,
    CertificateProblem,
    ConnectionFailed,
    InvalidOption,
    NotSecureCloud,
    ServerTimeout,
    ServerUnreachable,
    WrongHostName,
)

# X509_V_ERR_* of OpenSSL's x509_vfy.h.
_NOT_YET_VALID = 9
_EXPIRED = 10
_WRONG_NAME = (62, 64)

# The first that fits; each row's type is narrower than those below it, or apart from them.
_MEANINGS: tuple[tuple[type[Exception], type[ConnectionFailed], str], ...] = (
    (TimeoutError, ServerTimeout, "{server} did not answer within {timeout} seconds"),
    (
        socket.gaierror,
        ServerUnreachable,
        "the host name in {server} cannot be resolved: {reason}",
    ),
    (
        ConnectionRefusedError,
        ServerUnreachable,
        "nothing listens at {server} (connection refused)",
    ),
    (ConnectionError, ConnectionFailed, "{server} closed the connection without an answer"),
    (OSError, ServerUnreachable, "{server} cannot be reached: {reason}"),
)


def tls_context(ca_file: str) -> ssl.SSLContext:
    """Return a context for TLS 1.3 that trusts `ca_file` alone and checks host names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_verify_locations(cafile=ca_file)
    except ssl.SSLError:
        message = f"there is no certificate in {ca_file}"
        raise InvalidOption("ca_file", "certificates in PEM form", message) from None
    except OSError as error:
        message = f"cannot read {ca_file}: {error.strerror}"
        raise InvalidOption("ca_file", "a readable file", message) from None
    return context


def explain(error: Exception, server: str, ca_file: str, timeout: float) -> ConnectionFailed:
    """Return what a failed connection to `server` means, in the operator's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate(error, server, ca_file)
    if isinstance(error, ssl.SSLError) and not isinstance(error, TimeoutError):
        return _handshake(error, server)
    reason = getattr(error, "strerror", None) or error
    for kind, meaning, text in _MEANINGS:
        if isinstance(error, kind):
            return meaning(text.format(server=server, reason=reason, timeout=timeout))
    return NotSecureCloud(f"what answers at {server} does not speak HTTP/1.1")


def _certificate(
    error: ssl.SSLCertVerificationError, server: str, ca_file: str
) -> CertificateProblem:
    if error.verify_code in (_NOT_YET_VALID, _EXPIRED):
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        how = "not valid yet" if error.verify_code == _NOT_YET_VALID else "expired"
        return CertificateNotValidNow(
            f"a certificate of {server} is {how} by this machine's clock, which says {now}"
        )
    if error.verify_code in _WRONG_NAME:
        return WrongHostName(f"the certificate of {server} is for another host name")
    return CertificateProblem(
        f"the certificate of {server} was not issued by the authority in {ca_file}"
        f" ({error.verify_message})"
    )


def _handshake(error: ssl.SSLError, server: str) -> ConnectionFailed:
    reason = error.reason or "TLS failed"
    if "PROTOCOL" in reason:
        return NotSecureCloud(f"{server} does not speak TLS 1.3")
    if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason:
        return NotSecureCloud(f"what answers at {server} does not speak TLS")
    return ConnectionFailed(f"the TLS connection to {server} failed: {reason}")
