"""A TPM 2.0 in software: swtpm, reached as tpm2-tools reach a machine's own.

The kernel's resource manager (/dev/tpmrm0) empties the TPM when a program ends. There is none
here, so that is done after each program.
"""

import re
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Event

from securecloud_agent.run import Finished, run

_START_SECONDS = 20.0
_PAUSE = Event()


class SoftTpm:
    """One TPM with a state of its own."""

    driver = "swtpm:path="

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.socket = folder / "sock"
        self.calls: list[list[str]] = []
        self.secrets: list[bytes] = []
        self.broken: set[str] = set()
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "SoftTpm":
        self._folder.mkdir()
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [
                *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self._folder}"),
                *("--server", f"type=unixio,path={self.socket}"),
                *("--ctrl", f"type=unixio,path={self.socket}.ctrl"),
                *("--flags", "startup-clear", "--log", f"file={self._folder}/log,level=20"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + _START_SECONDS
        while not (self.socket.exists() and Path(f"{self.socket}.ctrl").exists()):
            assert self._process.poll() is None, "swtpm did not start"
            assert time.monotonic() < give_up, "swtpm did not start in time"
            _PAUSE.wait(0.01)

    def _stop(self) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(20)
        for name in ("sock", "sock.ctrl"):
            (self._folder / name).unlink(missing_ok=True)

    def boot(self) -> None:
        """Reset it as a machine does that is shut down in order and switched on again."""
        self.tool("tpm2_shutdown", "-c")
        self.cut()

    def cut(self) -> None:
        """Take its power away and give it back.

        It then goes on from the clock that it put down last; libtpms 0.9 does so in order only.
        """
        self._stop()
        self._start()

    def tool(self, name: str, *words: str) -> str:
        """Run one of tpm2-tools on it."""
        done = run([name, "-T", f"{self.driver}{self.socket}", *words], timeout=60)
        assert done.status == 0, done.messages
        return done.output.decode()

    def forward(self, milliseconds: int) -> None:
        """Set its clock forward, which is the only way that it can be set."""
        (clock,) = [line for line in self.tool("tpm2_readclock").splitlines() if " clock: " in line]
        self.tool("tpm2_setclock", str(int(clock.split()[1]) + milliseconds))

    def extend(self, pcr: int) -> None:
        """Measure something else into `pcr`."""
        self.tool("tpm2_pcrextend", f"{pcr}:sha256={'ab' * 32}")

    @property
    def bus(self) -> bytes:
        """All that went between the machine and it, in both directions."""
        lines = (self._folder / "log").read_text().splitlines()
        found = [line for line in lines if re.fullmatch(r"( [0-9A-F]{2})+ *", line)]
        return bytes.fromhex("".join(found))

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        secret: bytearray | None = None,
        pass_fds: tuple[int, ...] = (),
        cwd: str = "/",
    ) -> Finished:
        """Run any program as the agent does, and remember what it was told."""
        self.calls.append(list(argv))
        if secret is not None:
            self.secrets.append(bytes(secret))
        if argv[0] in self.broken:
            return Finished(1, b"", f"ERROR: {argv[0]}: out of memory for object contexts")
        done = run(argv, timeout=timeout, secret=secret, pass_fds=pass_fds, cwd=cwd)
        if argv[0].startswith("tpm2_"):
            self.tool("tpm2_flushcontext", "-t")
        return done

    def named(self, tool: str) -> list[list[str]]:
        """Return the calls of `tool` that the agent made."""
        return [call for call in self.calls if call[0] == tool]
