"""The machine's TPM 2.0, by tpm2-tools: seals a device key, and gives it out within its bounds.

The bounds are part of the sealed object's policy, so it is the TPM that keeps them: PolicyPCR, and
PolicyCounterTimer on its clock and its count of resets (TPM 2.0 Library, Part 3, 23.7 and 23.15).
The object hangs below a primary key of the owner hierarchy, which every TPM makes from its own
seed; nothing is stored in the TPM.

Between processor and TPM the key is encrypted with a session that is salted for the primary key, so
that listening on that bus is not enough.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from securecloud_agent.errors import AgentError
from securecloud_agent.run import Finished, Runner, ToolMissingError, locate

DEVICE = Path("/dev/tpmrm0")
"""The kernel's resource manager, which is there for a TPM 2.0 alone."""

DRIVER = "device:"
"""Never left to tpm2-tools, which would take whatever listens on a port of this machine."""

_SECONDS = 20
"""For each program; a TPM that hangs must not hold up a grace that ends meanwhile."""

_BANK = "sha256"
_PUBLIC, _PRIVATE = "object.pub", "object.priv"


class TpmError(AgentError):
    """The TPM is not there, or did not do it."""

    code = "tpm"


class RefusedByTpmError(TpmError):
    """The machine is not in the state, or past the bounds, for which the key was sealed."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The TPM's clock in milliseconds, and how often it was reset; neither ever goes back."""

    clock: int
    resets: int


@dataclass(frozen=True, slots=True)
class Bounds:
    """PCRs of the SHA-256 bank with the values that they have at sealing, and the first value of
    clock and resets that is too much.
    """

    pcrs: tuple[int, ...]
    clock_limit: int
    reset_limit: int


class Tpm:
    """Runs tpm2-tools; `folder` is where they put their contexts, which hold no secret."""

    def __init__(self, run: Runner, folder: Path) -> None:
        self._run = run
        self._folder = folder

    def problem(self) -> str | None:
        """Return why nothing can be sealed on this machine, or None; asks no TPM."""
        if not DEVICE.exists():
            return f"no TPM 2.0 ({DEVICE} is not there)"
        try:
            locate("tpm2_unseal")
        except ToolMissingError as error:
            return str(error)
        return None

    def read(self) -> Reading:
        """Return clock and resets as they are now."""
        with TemporaryDirectory(prefix="tpm-", dir=self._folder) as folder:
            text = _Work(self._run, folder).do("tpm2_readclock").output.decode("ascii", "replace")
        return Reading(_number(text, "clock"), _number(text, "reset_count"))

    def seal(self, key: bytearray, bounds: Bounds) -> tuple[bytes, bytes]:
        """Return the public and the private part of an object that holds `key`."""
        with self._primary() as work:
            work.do("tpm2_startauthsession", "-S", "trial.ctx")
            work.bind("trial.ctx", bounds)
            work.do("tpm2_startauthsession", "--hmac-session", *_SALTED, "-S", "safe.ctx")
            work.do("tpm2_sessionconfig", "--enable-decrypt", "safe.ctx")
            work.do(
                "tpm2_create",
                *("-C", "primary.ctx", "-P", "session:safe.ctx", "-g", _BANK, "-i", "-"),
                *("-a", "fixedtpm|fixedparent|adminwithpolicy|noda", "-L", "policy"),
                *("-u", _PUBLIC, "-r", _PRIVATE),
                secret=key,
            )
            return work.content(_PUBLIC), work.content(_PRIVATE)

    def unseal(self, public: bytes, private: bytes, bounds: Bounds) -> bytearray:
        """Return the key; RefusedByTpmError when its bounds do not hold, or it is another TPM's."""
        with self._primary() as work:
            work.put(_PUBLIC, public)
            work.put(_PRIVATE, private)
            load = ("-C", "primary.ctx", "-u", _PUBLIC, "-r", _PRIVATE, "-c", "object.ctx")
            work.do("tpm2_load", *load, refused="it was sealed by another TPM, or is damaged")
            work.do("tpm2_startauthsession", "--policy-session", *_SALTED, "-S", "now.ctx")
            work.do("tpm2_sessionconfig", "--enable-encrypt", "now.ctx")
            work.bind(
                "now.ctx", bounds, refused="its clock or its count of resets is past the bounds"
            )
            done = work.do(
                *("tpm2_unseal", "-c", "object.ctx", "-p", "session:now.ctx"),
                refused=f"the PCRs {_list(bounds.pcrs)} are not as they were when it was sealed, or"
                " its file was changed",
            )
            return bytearray(done.output)

    @contextmanager
    def _primary(self) -> "Iterator[_Work]":
        with TemporaryDirectory(prefix="tpm-", dir=self._folder) as folder:
            work = _Work(self._run, folder)
            words = ("-C", "o", "-g", _BANK, "-G", "ecc", "-a", _PRIMARY, "-c", "primary.ctx")
            work.do("tpm2_createprimary", *words)
            try:
                yield work
            finally:
                work.end_sessions()


_PRIMARY = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|restricted|decrypt|noda"
"""Without noda some power cuts in a row would lock it out (Part 1, 19.8): nobody guesses here."""

_SALTED = ("--tpmkey-context", "primary.ctx")
_SESSIONS = ("trial.ctx", "safe.ctx", "now.ctx")


class _Work:
    """A few commands in one folder."""

    def __init__(self, run: Runner, folder: str) -> None:
        self._run = run
        self._folder = folder

    def do(
        self, tool: str, *words: str, secret: bytearray | None = None, refused: str = ""
    ) -> Finished:
        """Run `tool`; where it fails, `refused` is what that means."""
        argv = [tool, "-Q", "-T", f"{DRIVER}{DEVICE}", *words]
        if tool in _LOUD:
            argv.remove("-Q")
        done = self._run(argv, timeout=_SECONDS, secret=secret, cwd=self._folder)
        if done.status != 0 and refused:
            raise RefusedByTpmError(
                f"the TPM does not give it out: {refused} ({tool}: {done.complaint})"
            )
        if done.status != 0:
            raise TpmError(f"{tool} failed: {done.complaint}")
        return done

    def bind(self, session: str, bounds: Bounds, refused: str = "") -> None:
        """Extend the session's policy by the bounds; its digest is in the file `policy` then."""
        pcrs = f"{_BANK}:{','.join(map(str, bounds.pcrs))}"
        self.do("tpm2_policypcr", "-S", session, "-l", pcrs)
        for limit in (f"resets={bounds.reset_limit}", f"clock={bounds.clock_limit}"):
            self.do(
                *("tpm2_policycountertimer", "-S", session, "--ult", limit, "-L", "policy"),
                refused=refused,
            )

    def end_sessions(self) -> None:
        """Give the TPM its room back; a session that is not ended stays until the next reset."""
        for name in _SESSIONS:
            if (Path(self._folder) / name).exists():
                argv = ["tpm2_flushcontext", "-Q", "-T", f"{DRIVER}{DEVICE}", name]
                self._run(argv, timeout=_SECONDS, cwd=self._folder)

    def put(self, name: str, content: bytes) -> None:
        (Path(self._folder) / name).write_bytes(content)

    def content(self, name: str) -> bytes:
        return (Path(self._folder) / name).read_bytes()


_LOUD = frozenset({"tpm2_readclock", "tpm2_unseal"})


def _number(text: str, name: str) -> int:
    found = re.search(rf"^\s*{name}: (\d+)$", text, re.MULTILINE)
    if found is None:
        raise TpmError(f"tpm2_readclock says no {name}")
    return int(found.group(1))


def _list(pcrs: Sequence[int]) -> str:
    return ", ".join(map(str, pcrs))
