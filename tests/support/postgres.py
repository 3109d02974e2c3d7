"""A PostgreSQL cluster of our own, from Debian's package, for as long as a test run lasts."""

import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

_ACCOUNT = "postgres"


class Cluster:
    """A cluster on a socket in a directory of its own; `stop` and `start` as often as wanted."""

    def __init__(self) -> None:
        self._bin = self._newest()
        # A socket's path has at most 107 octets, so not below pytest's directories.
        self.directory = Path(tempfile.mkdtemp(prefix="sc-pg-"))
        self._as_owner: list[str] = []
        if os.getuid() == 0:
            owner = pwd.getpwnam(_ACCOUNT)
            os.chown(self.directory, owner.pw_uid, owner.pw_gid)
            self._as_owner = ["runuser", "-u", _ACCOUNT, "--"]
        self._data = self.directory / "data"
        self._run("initdb", "-D", self._data, "-U", "keys", "-A", "trust", "-E", "UTF8", "-N")

    @staticmethod
    def _newest() -> Path:
        found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
        assert found, "PostgreSQL is not installed: run tools/packages.sh postgresql"
        return found[-1].parent

    def _run(self, program: str, *arguments: object) -> None:
        done = subprocess.run(
            [*self._as_owner, str(self._bin / program), *map(str, arguments)],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self) -> None:
        options = f"-c listen_addresses='' -c fsync=off -k {self.directory}"
        log = self.directory / "log"
        self._run("pg_ctl", "-D", self._data, "-l", log, "-o", options, "-w", "start")

    def stop(self, mode: str = "fast") -> None:
        self._run("pg_ctl", "-D", self._data, "-m", mode, "-w", "stop")

    def remove(self) -> None:
        self.stop("immediate")
        shutil.rmtree(self.directory)

    def url(self, database: str) -> str:
        return f"postgresql://keys@/{database}?host={self.directory}"
