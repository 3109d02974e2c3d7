"""Runs the server in the foreground: Granian, TLS 1.3, one worker process unless told otherwise.

SIGTERM and SIGINT finish the requests in flight and stop; SIGHUP starts a new worker, which reads
the TLS certificate and key anew, and then stops the old one.
"""

import asyncio
import ctypes
import logging
import os
import resource
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, SSLProtocols
from granian.http import HTTP1Settings
from granian.log import LogLevels
from securecloud_protocol import MAX_COPY_MESSAGE_BYTES, MAX_MESSAGE_BYTES
from securecloud_protocol.http_binding import COPY_PATH

from securecloud_server import app
from securecloud_server.domain.errors import DomainError, FieldError, Invalid
from securecloud_server.keystores.master_key import SEALED, master_key_path
from securecloud_server.logs import configure_logs, server_logs
from securecloud_server.rsgi import RsgiAdapter, Served
from securecloud_server.settings import Settings
from securecloud_server.web.agent_api import PREFIX, WaitingRoom

_LOG = logging.getLogger("securecloud.serve")
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_HOUSEKEEPING_SECONDS = 60.0
_LOOK_SECONDS = 1.0
_MOST_CONNECTIONS = 16384
# The rest are for exchanges and administrators.
_MOST_WAITING = 12000
_HEADER_MILLISECONDS = 5000
_HEADER_BYTES = 65536
_STOP_SECONDS = 10
_UNSEALED_POLL = 0.5


def serve(settings: Settings) -> None:
    """Serve until told to stop. Raises DomainError when something needed is missing."""
    configure_logs(settings.log.level)
    protect_memory()
    app.load_certificates(settings.server.tls_certificate)
    _check_key_file(settings.server.tls_key)
    _await_shares(settings)
    app.build(settings).close()
    host, port = settings.server.host_and_port
    server = Granian(
        "securecloud_server",
        address=host,
        port=port,
        interface=Interfaces.RSGI,
        workers=settings.server.workers,
        respawn_failed_workers=True,
        workers_kill_timeout=_STOP_SECONDS,
        http=HTTPModes.http1,
        websockets=False,
        backlog=2048,
        backpressure=_MOST_CONNECTIONS,
        http1_settings=HTTP1Settings(
            header_read_timeout=_HEADER_MILLISECONDS, max_buffer_size=_HEADER_BYTES
        ),
        ssl_cert=Path(settings.server.tls_certificate),
        ssl_key=Path(settings.server.tls_key),
        ssl_protocol_min=SSLProtocols.tls13,
        log_level=LogLevels(settings.log.level),
        log_dictconfig=server_logs(settings.log.level),
    )
    loader: Any = partial(_adapter, settings, os.getpid())
    server.serve(target_loader=loader, wrap_loader=False)


def protect_memory() -> None:
    """Keep keys out of core dumps, and other processes of this user out of our memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def end_with(parent: int) -> None:
    """End this process when its parent does, be it killed: no worker serves on as an orphan."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        raise SystemExit("the main process has ended")


def _prctl(option: int, argument: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, argument, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), f"prctl({option})")


class Node:
    """What lives in one worker process: the application, its housekeeping, and who waits at it."""

    def __init__(self, settings: Settings, parent: int) -> None:
        self._settings = settings
        self._parent = parent
        self._stopping = threading.Event()
        self._application: app.Application | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> Served:
        """Build the application, with the certificate that is there now."""
        end_with(self._parent)
        certificates = app.load_certificates(self._settings.server.tls_certificate)
        self._application = app.build(self._settings, certificates)
        room = app.waiting_room(self._application, _MOST_WAITING)
        look_for_checks = partial(_look_for_checks, loop, room, self._application)
        for chore in (look_for_checks, *self._application.upkeep()):
            threading.Thread(target=self._each_second, args=(chore,), daemon=True).start()
        threading.Thread(target=self._keep_house, args=(self._application,), daemon=True).start()
        _LOG.info("ready", extra={"server_id": self._application.server_id})
        held = app.held(self._application, room)
        return Served(
            app.handler(self._application),
            PREFIX if self._never_waits() else None,
            held,
            room.close,
        )

    def _never_waits(self) -> bool:
        """Say whether agents are answered without a network, behind which a thread may wait."""
        application = self._application
        assert application is not None
        return application.database.kind == "sqlite" and not application.settings.kmip.server

    def stop(self) -> None:
        """Give up the database."""
        self._stopping.set()
        if self._application is not None:
            self._application.close()

    def _keep_house(self, application: app.Application) -> None:
        while not self._stopping.wait(_HOUSEKEEPING_SECONDS):
            for chore in (application.housekeeping.run, application.key_care.run):
                try:
                    chore()
                except DomainError as error:
                    _LOG.error("housekeeping failed", extra={"cause": str(error)})

    def _each_second(self, chore: Callable[[], None]) -> None:
        """Do it until the end; others complain of a database that is away."""
        while not self._stopping.wait(_LOOK_SECONDS):
            with suppress(DomainError):
                chore()


def _look_for_checks(
    loop: asyncio.AbstractEventLoop, room: WaitingRoom, application: app.Application
) -> None:
    """Look for all who wait at once."""
    found = application.checks.look()
    if found:
        loop.call_soon_threadsafe(room.tell, found)


def _adapter(settings: Settings, parent: int) -> RsgiAdapter:
    node = Node(settings, parent)
    longer = {COPY_PATH: MAX_COPY_MESSAGE_BYTES}
    return RsgiAdapter(node.start, node.stop, settings.server.threads, MAX_MESSAGE_BYTES, longer)


def _await_shares(settings: Settings) -> None:
    """Wait until enough people have given their shares, where the master key comes of them."""
    for source in (settings.keystore.master_key, settings.keystore.previous_master_key):
        if source.startswith("shares:") and not master_key_path(source).exists():
            _LOG.warning(SEALED)
            while not master_key_path(source).exists():
                threading.Event().wait(_UNSEALED_POLL)
            _LOG.info("unsealed")


def _check_key_file(path: str) -> None:
    """Refuse early what Granian refuses with a stack trace."""
    try:
        text = Path(path).read_text(encoding="ascii")
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise Invalid([FieldError("server.tls_key", "a readable file", message)]) from None
    except UnicodeDecodeError:
        text = ""
    if "-----BEGIN PRIVATE KEY-----" not in text:
        expected = "an unencrypted PKCS#8 key in PEM form (BEGIN PRIVATE KEY)"
        raise Invalid([FieldError("server.tls_key", expected, f"{path} is not {expected}")])
