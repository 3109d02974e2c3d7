"""The files of what is kept for boots without a server, one a device, and of how it was used.

What lies in them opens nothing without the TPM that sealed it. A file that is torn or was changed
is as good as none.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from securecloud_protocol.encoding import b64u_decode, b64u_encode
from securecloud_protocol.errors import ProtocolError
from securecloud_protocol.messages import OFFLINE

from securecloud_agent.decide.offline import Kept, Sealed
from securecloud_agent.state.files import (
    StateError,
    private_directory,
    read_json,
    remove,
    write_json,
)

_MOST_OCTETS = 16 * 1024
_MOST_IN_A_PART = 4096
_MOST = 2**53
_YEAR_10000 = 253_402_300_800 - 604_800


@dataclass(frozen=True, slots=True)
class Uses:
    """How often a key was used without a server since one was told; times in seconds since 1970."""

    times: int
    first: int
    last: int


class Store:
    """Below `state_dir`, in folders that are made when they are needed."""

    def __init__(self, state_dir: Path) -> None:
        self._kept = state_dir / "sealed"
        self._uses = state_dir / "used_offline"

    def devices(self) -> tuple[str, ...]:
        """Return the devices of which anything is kept."""
        return tuple(sorted(path.stem for path in self._kept.glob("*.json")))

    def kept(self, device: str) -> Kept | None:
        """Return what is kept; raises StateError where that is damaged."""
        path = self._path(self._kept, device)
        found = _read(path)
        if found is None:
            return None
        try:
            return _kept(found)
        except (AttributeError, KeyError, TypeError, ValueError, ProtocolError):
            raise StateError(f"{path} is damaged") from None

    def keep(self, device: str, kept: Kept) -> None:
        """Replace what is kept."""
        private_directory(self._kept)
        write_json(self._path(self._kept, device), _document(kept))

    def remove(self, device: str) -> None:
        """Keep nothing any more."""
        remove(self._path(self._kept, device))

    def uses(self, device: str) -> Uses | None:
        """Return the uses of which no server knows yet; what cannot be read counts as none."""
        try:
            found = _read(self._path(self._uses, device))
            if found is None:
                return None
            return Uses(_count(found["times"]), _time(found["first"]), _time(found["last"]))
        except (StateError, KeyError, TypeError, ValueError):
            return None

    def used(self, device: str, now: int) -> None:
        """Count one more use."""
        known = self.uses(device)
        uses = {"times": known.times + 1 if known else 1, "first": known.first if known else now}
        private_directory(self._uses)
        write_json(self._path(self._uses, device), {**uses, "last": now})

    def told(self, device: str) -> None:
        """Forget the uses: a server knows."""
        remove(self._path(self._uses, device))

    def _path(self, folder: Path, device: str) -> Path:
        return folder / f"{device}.json"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        if path.lstat().st_size > _MOST_OCTETS:
            raise StateError(f"{path} is damaged: it is larger than it can be")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StateError(f"{path} cannot be read: {error.strerror}") from None
    try:
        return read_json(path)
    except RecursionError:
        raise StateError(f"{path} is damaged: it is nested too deep") from None


def _document(kept: Kept) -> dict[str, Any]:
    sealed = kept.sealed
    return {
        "period": kept.period,
        "boots": kept.boots,
        "pcrs": list(kept.pcrs),
        "at": kept.at,
        "boot_id": kept.boot_id,
        "seen": kept.seen,
        "boots_left": kept.boots_left,
        "problem": kept.problem,
        "sealed": None
        if sealed is None
        else {
            "key_version": sealed.key_version,
            "clock_limit": sealed.clock_limit,
            "reset_limit": sealed.reset_limit,
            "public": b64u_encode(sealed.public),
            "private": b64u_encode(sealed.private),
        },
    }


def _kept(found: dict[str, Any]) -> Kept:
    offer = OFFLINE.decode({name: found[name] for name in ("period", "boots", "pcrs")})
    return Kept(
        period=offer.period,
        boots=offer.boots,
        pcrs=offer.pcrs,
        at=_time(found["at"]),
        boot_id=_text(found["boot_id"]),
        seen=_time(found["seen"]),
        boots_left=_count(found["boots_left"]),
        sealed=None if found["sealed"] is None else _sealed(found["sealed"]),
        problem=_text(found["problem"]),
    )


def _sealed(found: dict[str, Any]) -> Sealed:
    return Sealed(
        key_version=_count(found["key_version"]),
        public=_part(found["public"]),
        private=_part(found["private"]),
        clock_limit=_count(found["clock_limit"]),
        reset_limit=_count(found["reset_limit"]),
    )


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < _MOST:
        raise ValueError("not a count")
    return value


def _time(value: Any) -> int:
    if _count(value) >= _YEAR_10000:
        raise ValueError("not a time")
    return int(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _part(value: Any) -> bytes:
    octets = b64u_decode(_text(value))
    if not 0 < len(octets) <= _MOST_IN_A_PART:
        raise ValueError("not a part of a sealed object")
    return octets
