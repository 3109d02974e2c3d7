"""`serve`: refuses early and in words; stops when told."""

import signal
import socket
import sqlite3
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from server.tests.cli.conftest import PROGRAM, Installation


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    try:
        ssl.get_server_certificate(("127.0.0.1", port), timeout=5)
    except OSError:
        return False
    return True


def _not_initialised(it: Installation) -> None:
    it.configure()


def _without_certificate(it: Installation) -> None:
    it.configure()
    it.init()
    (it.root / "tls/server.pem").unlink()


def _with_an_encrypted_key(it: Installation) -> None:
    it.configure()
    it.init()
    key = it.root / "tls/server.key"
    key.write_text(key.read_text().replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY"))


def _with_an_old_schema(it: Installation) -> None:
    it.configure()
    it.init()
    with sqlite3.connect(it.database) as database:
        database.execute("DELETE FROM schema_version")


@pytest.mark.parametrize(
    ("prepare", "hint"),
    [
        (_not_initialised, "master key"),
        (_without_certificate, "server.pem"),
        (_with_an_encrypted_key, "PKCS#8"),
        (_with_an_old_schema, "db upgrade"),
    ],
)
def test_what_is_missing_is_said_at_once(
    fresh: Installation, prepare: Callable[[Installation], None], hint: str
) -> None:
    prepare(fresh)
    done = fresh.run("serve")
    assert done.returncode == 1
    assert hint in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("word", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told(installed: Installation, word: signal.Signals, tmp_path: Path) -> None:
    port = _free_port()
    installed.configure(server={"listen": f"127.0.0.1:{port}"})
    with subprocess.Popen(
        [PROGRAM, "--config", installed.config, "serve"], stderr=subprocess.PIPE, text=True
    ) as process:
        watchdog = threading.Timer(30, process.kill)
        watchdog.start()
        while not _answers(port) and process.poll() is None:
            threading.Event().wait(0.05)
        process.send_signal(word)
        _, messages = process.communicate()
        assert process.returncode == 0, messages
        watchdog.cancel()


def test_sealed_it_waits_for_shares_of_its_master_key(installed: Installation) -> None:
    port = _free_port()
    with TemporaryDirectory(dir="/dev/shm") as memory:
        keystore = {
            "master_key": f"shares:{memory}/master.key",
            "previous_master_key": f"file:{installed.master_key}",
        }
        installed.configure(server={"listen": f"127.0.0.1:{port}"}, keystore=keystore)
        split = installed.run("keystore", "split", "--shares", "3", "--needed", "2")
        command = [PROGRAM, "--config", installed.config, "serve"]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            watchdog = threading.Timer(60, process.kill)
            watchdog.start()
            assert process.stderr is not None
            assert "the server is sealed" in process.stderr.readline()
            assert not _answers(port)
            installed.run("keystore", "unseal", stdin="\n".join(split.stdout.split()[:2]))
            while not _answers(port) and process.poll() is None:
                threading.Event().wait(0.05)
            process.send_signal(signal.SIGTERM)
            _, messages = process.communicate()
            assert process.returncode == 0, messages
            assert "unsealed" in messages
            watchdog.cancel()
