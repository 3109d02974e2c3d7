"""No key and no token of a whole run is found where it does not belong."""

import base64
import sqlite3
from collections.abc import Callable
from pathlib import Path

from tests.support.live import AgentMachine, LiveServer

RECORDER = """#!/bin/sh
# Stands in front of the real cryptsetup: keeps a copy of argv, environment and standard input.
directory=$(dirname "$0")
tr '\\0' '\\n' </proc/$$/cmdline >>"$directory/argv"
env >>"$directory/environment"
case "$*" in
*--key-file=-*) cat >"$directory/key"; exec /usr/sbin/cryptsetup "$@" <"$directory/key" ;;
*) exec /usr/sbin/cryptsetup "$@" ;;
esac
"""


def spellings(secret: bytes) -> list[bytes]:
    encoded = base64.urlsafe_b64encode(secret).rstrip(b"=")
    return [secret, secret.hex().encode(), encoded, base64.b64encode(secret).rstrip(b"=")]


def files_below(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


def test_the_key_reaches_cryptsetup_on_a_pipe_and_nothing_else(
    new_agent: Callable[[str], AgentMachine], server: LiveServer, tmp_path: Path
) -> None:
    recorder = tmp_path / "recorder"
    recorder.mkdir()
    (recorder / "cryptsetup").write_text(RECORDER)
    (recorder / "cryptsetup").chmod(0o700)
    machine = new_agent("secretive")
    done = machine.cli("unlock", "--json", programs=f"{recorder}:/usr/sbin:/usr/bin:/sbin:/bin")
    assert done.returncode == 0, done.stdout + done.stderr
    key = (recorder / "key").read_bytes()
    assert len(key) == 64
    told = [(recorder / "argv").read_bytes(), (recorder / "environment").read_bytes()]
    told += [done.stdout.encode(), done.stderr.encode()]
    places = files_below(machine.directory) + files_below(server.directory)
    for spelling in spellings(key):
        assert not any(spelling in text for text in told)
        assert not [path for path in places if spelling in path.read_bytes()]


def test_tokens_are_stored_hashed_and_never_logged(server: LiveServer) -> None:
    created = server.ok("POST", "/tokens", {"name": "ci", "role": "auditor"})
    secret = created["token"].rsplit(".", 1)[1].encode()
    assert server.request("GET", "/api/v1/policies", token=created["token"]).status == 200
    server.request("GET", "/api/v1/policies", token=created["token"][:-1] + "A")
    with sqlite3.connect(server.database) as database:
        dump = "\n".join(database.iterdump()).encode()
    assert secret not in dump
    assert base64.urlsafe_b64decode(secret + b"=").hex().encode() not in dump
    for path in files_below(server.directory):
        assert secret not in path.read_bytes(), path
