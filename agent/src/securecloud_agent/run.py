"""The one subprocess wrapper: fixed argv, empty environment, secrets on a pipe, a time limit."""

import os
import select
import selectors
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from securecloud_agent.errors import AgentError, printable

SEARCH_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"

_PACKAGES = {
    "cryptsetup": "cryptsetup-bin",
    "dmsetup": "dmsetup",
    "sync": "coreutils",
    "wall": "bsdutils",
    "blkid": "util-linux",
    "wipefs": "util-linux",
    "mount": "mount",
    "umount": "mount",
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "e2fsck": "e2fsprogs",
    "resize2fs": "e2fsprogs",
    "xfs_repair": "xfsprogs",
    "systemctl": "systemd",
    "iscsiadm": "open-iscsi",
    "udevadm": "udev",
    "tpm2_unseal": "tpm2-tools",
}


class ToolMissingError(AgentError):
    """A program that the agent needs is not installed."""

    code = "tool_missing"


class ToolTimeoutError(AgentError):
    """A program took longer than it may."""

    code = "tool_timeout"


@dataclass(frozen=True, slots=True)
class Finished:
    """A program that ended: exit status, and what it wrote."""

    status: int
    output: bytes
    messages: str

    @property
    def complaint(self) -> str:
        """The program's last message as one safe line, or its exit status."""
        lines = [line.strip() for line in self.messages.splitlines() if line.strip()]
        return printable(" / ".join(lines[-2:]) if lines else f"exit status {self.status}", 300)


class Runner(Protocol):
    """Runs programs; the tests have one that only records."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        timeout: float,
        secret: bytearray | None = None,
        pass_fds: tuple[int, ...] = (),
        cwd: str = "/",
    ) -> Finished:
        """Run `argv` to its end and return what came of it; a non-zero status does not raise."""


class ScriptRunner(Protocol):
    """Runs an administrator's executables; the tests have one that only records."""

    def __call__(
        self,
        path: Path,
        words: Sequence[str],
        *,
        environment: Mapping[str, str],
        timeout: float,
        line: Callable[[bytes], None],
    ) -> int:
        """Run the executable at `path` to its end, at most `timeout` seconds."""


class Follower(Protocol):
    """Runs programs that take hours; the tests have one that plays a script."""

    def __call__(
        self,
        argv: Sequence[str],
        *,
        secret: bytearray,
        pass_fds: tuple[int, ...],
        line: Callable[[bytes], None],
        stop: Callable[[], bool],
    ) -> Finished:
        """Run `argv` to its end; `line` gets each line it prints, `stop` says when to end it."""


def locate(tool: str) -> str:
    """Return the path of `tool`, looked for in the system's directories only."""
    path = shutil.which(tool, path=SEARCH_PATH)
    if path is None:
        package = _PACKAGES.get(tool)
        remedy = f"; install the Debian package {package}" if package else ""
        raise ToolMissingError(f"the program {tool} is not installed{remedy}")
    return path


def run(
    argv: Sequence[str],
    *,
    timeout: float,
    secret: bytearray | None = None,
    pass_fds: tuple[int, ...] = (),
    cwd: str = "/",
) -> Finished:
    """Run `argv`; `secret` goes to its standard input and nowhere else.

    A session of its own keeps a terminal's Ctrl-C away from a program that is writing to a disk.
    """
    process = _begin(argv, secret is not None, pass_fds, cwd)
    try:
        if secret is not None:
            _feed(process, secret)
        output, messages = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        _end(process)
        raise ToolTimeoutError(f"{argv[0]} did not end within {timeout:g} s") from None
    return Finished(process.returncode, output, messages.decode("utf-8", "replace"))


def _end(process: subprocess.Popen[bytes]) -> None:
    """Kill a program with all that it started, and wait a little.

    One that waits for a disk dies when that answers, perhaps never: it is not waited for.
    """
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_DYING_SECONDS)
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


_DYING_SECONDS = 2.0


def run_script(
    path: Path,
    words: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout: float,
    line: Callable[[bytes], None],
) -> int:
    """Run the executable at `path` (absolute) and return its exit status.

    It gets `environment` besides PATH and LC_ALL, and `line` gets each line that it writes, as it
    writes it. When it has ended, what it left behind in the background is not waited for. Raises
    ToolTimeoutError when the time is over, and ends all that it started; AgentError when it cannot
    be started.
    """
    try:
        process = subprocess.Popen(
            [str(path), *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={"LC_ALL": "C", "PATH": SEARCH_PATH, **environment},
            cwd="/",
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        raise AgentError(f"it cannot be started: {error.strerror}") from None
    try:
        if not _listen(process, line, time.monotonic() + timeout):
            raise ToolTimeoutError(f"it did not end within {timeout:g} s")
        return process.wait()
    finally:
        _end(process)


def _listen(
    process: subprocess.Popen[bytes], line: Callable[[bytes], None], give_up: float
) -> bool:
    """Hand on what the program writes; return whether it has ended before `give_up`."""
    assert process.stdout is not None
    output, held, ended = process.stdout.fileno(), b"", False
    os.set_blocking(output, False)
    exit_news = os.pidfd_open(process.pid)
    try:
        while not ended and (left := give_up - time.monotonic()) > 0:
            ready, _, _ = select.select(
                [output, exit_news] if output >= 0 else [exit_news], [], [], left
            )
            ended = exit_news in ready
            while output >= 0 and (chunk := _read(output)) is not None:
                if not chunk:
                    output = -1
                    break
                *lines, held = (held + chunk).split(b"\n")
                for each in lines:
                    line(each)
                if len(held) > _LONGEST_LINE:
                    line(held)
                    held = b""
                if time.monotonic() > give_up:
                    break
    finally:
        os.close(exit_news)
    if held:
        line(held)
    return ended


def _read(descriptor: int) -> bytes | None:
    """Return what is there: nothing (b"") at the end, None when there is nothing yet."""
    try:
        return os.read(descriptor, 65536)
    except BlockingIOError:
        return None


_LONGEST_LINE = 4096


def follow(
    argv: Sequence[str],
    *,
    secret: bytearray,
    pass_fds: tuple[int, ...],
    line: Callable[[bytes], None],
    stop: Callable[[], bool],
) -> Finished:
    """Run `argv`, which may take hours, and give each line it prints to `line` at once.

    `stop` is asked every second; when it holds, the program is told to end (SIGTERM) and awaited.
    """
    with _begin(argv, True, pass_fds) as process:
        _feed(process, secret)
        messages = _lines(process, line, stop)
        process.wait()
    return Finished(process.returncode, b"", messages.decode("utf-8", "replace"))


_TICK = 1.0
_MESSAGES = 64 * 1024


def _lines(
    process: subprocess.Popen[bytes], line: Callable[[bytes], None], stop: Callable[[], bool]
) -> bytes:
    """Hand on what the program prints until it closes both pipes; return its last messages."""
    assert process.stdout is not None
    assert process.stderr is not None
    held, messages, told = b"", b"", False
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        selector.register(process.stderr, selectors.EVENT_READ)
        while selector.get_map():
            for key, _ in selector.select(_TICK):
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stderr:
                    messages = (messages + chunk)[-_MESSAGES:]
                else:
                    *lines, held = (held + chunk).split(b"\n")
                    for each in lines:
                        line(each)
            if not told and stop():
                told = True
                process.send_signal(signal.SIGTERM)
    return messages


def _begin(
    argv: Sequence[str], with_secret: bool, pass_fds: tuple[int, ...], cwd: str = "/"
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [locate(argv[0]), *argv[1:]],
        stdin=subprocess.PIPE if with_secret else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={"LC_ALL": "C", "PATH": SEARCH_PATH},
        cwd=cwd,
        bufsize=0,
        pass_fds=pass_fds,
        start_new_session=True,
    )


def _feed(process: subprocess.Popen[bytes], secret: bytearray) -> None:
    """Write straight from the caller's buffer, so that no copy outlives its wiping.

    A pipe holds far more than a key, so this never waits.
    """
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        os.write(process.stdin.fileno(), secret)
    process.stdin.close()
    process.stdin = None
