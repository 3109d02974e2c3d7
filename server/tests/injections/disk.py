"""Every operation of SQLite on its files, in our hands.

SQLite reaches files through tables of functions alone (https://sqlite.org/vfs.html). In this
process ours stand before its own: each asks whether it may, and then does what SQLite's does. Only
flushing does nothing to the real disk: `lose_unflushed` takes back what was not to be flushed.
"""

import _sqlite3
import ctypes
import os
from collections.abc import Callable
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

_OPEN = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_int, c_void_p)
_DELETE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int)
_TRANSFER = CFUNCTYPE(c_int, c_void_p, c_void_p, c_int, c_int64)
_TRUNCATE = CFUNCTYPE(c_int, c_void_p, c_int64)
_SIZE = CFUNCTYPE(c_int, c_void_p, POINTER(c_int64))
_FLAG = CFUNCTYPE(c_int, c_void_p, c_int)
_MAP = CFUNCTYPE(c_int, c_void_p, c_int, c_int, c_int, c_void_p)
_SHARED_LOCK = CFUNCTYPE(c_int, c_void_p, c_int, c_int, c_int)

Half = Callable[[], object]
Ask = Callable[[str, Half], int]
"""Told of an operation and how to do half of it; returns what SQLite is told, 0 to go on."""


class _Vfs(ctypes.Structure):
    """The beginning of `sqlite3_vfs`."""

    _fields_ = (
        ("version", c_int),
        ("file_octets", c_int),
        ("path_max", c_int),
        ("next", c_void_p),
        ("name", c_char_p),
        ("data", c_void_p),
        ("open", c_void_p),
        ("delete", c_void_p),
    )


class _Methods(ctypes.Structure):
    """`sqlite3_io_methods`, version 3."""

    _fields_ = (
        ("version", c_int),
        ("close", c_void_p),
        ("read", c_void_p),
        ("write", c_void_p),
        ("truncate", c_void_p),
        ("sync", c_void_p),
        ("size", c_void_p),
        ("lock", c_void_p),
        ("unlock", c_void_p),
        ("is_reserved", c_void_p),
        ("control", c_void_p),
        ("sector", c_void_p),
        ("character", c_void_p),
        ("map", c_void_p),
        ("shared_lock", c_void_p),
        ("barrier", c_void_p),
        ("unmap", c_void_p),
        ("fetch", c_void_p),
        ("unfetch", c_void_p),
    )


_KINDS = {
    "read": _TRANSFER,
    "write": _TRANSFER,
    "truncate": _TRUNCATE,
    "sync": _FLAG,
    "size": _SIZE,
    "lock": _FLAG,
    "unlock": _FLAG,
    "map": _MAP,
    "shared_lock": _SHARED_LOCK,
}


@dataclass(frozen=True)
class _Before:
    """What a write that was not flushed has overwritten."""

    length: int
    offset: int
    octets: bytes


@dataclass(frozen=True)
class _File:
    """An open file: SQLite's own functions, and where it is."""

    own: dict[str, Callable[..., int]]
    path: str


class Disk:
    """All files of SQLite in this process."""

    def __init__(self) -> None:
        self.ask: Ask = nothing
        self.remembers = False
        """Whether to keep what `lose_unflushed` needs."""
        self._files: dict[int, _File] = {}
        self._tables: dict[int, _Methods] = {}
        self._unflushed: dict[str, list[_Before]] = {}
        library = ctypes.CDLL(_sqlite3.__file__)
        library.sqlite3_vfs_find.restype = POINTER(_Vfs)
        self._vfs = library.sqlite3_vfs_find(None).contents
        self._own_open, self._own_delete = _OPEN(self._vfs.open), _DELETE(self._vfs.delete)
        self._ours: dict[str, Any] = {
            "open": _OPEN(self._open),
            "delete": _DELETE(self._delete),
            **{name: kind(self._before(name)) for name, kind in _KINDS.items() if name != "size"},
        }
        for name in ("open", "delete"):
            setattr(self._vfs, name, ctypes.cast(self._ours[name], c_void_p).value)

    def lose_unflushed(self) -> None:
        """Undo every write that was not flushed. Then SQLite is not to be used any more."""
        for path, writes in self._unflushed.items():
            descriptor = os.open(path, os.O_RDWR)
            for before in reversed(writes):
                os.pwrite(descriptor, before.octets, before.offset)
                os.ftruncate(descriptor, before.length)
            os.close(descriptor)

    def _open(self, vfs: int, name: int, file: int, flags: int, out: int) -> int:
        methods = c_void_p.from_address(file)
        methods.value = None
        code = self.ask("open", _whole) or self._own_open(vfs, name, file, flags, out)
        if code == 0 and methods.value is not None:
            theirs = _Methods.from_address(methods.value)
            # Some files know no locks, and cannot be mapped.
            own = {n: kind(getattr(theirs, n)) for n, kind in _KINDS.items() if getattr(theirs, n)}
            self._files[file] = _File(own, ctypes.string_at(name).decode() if name else "")
            methods.value = ctypes.addressof(self._table(methods.value))
        return code

    def _table(self, theirs: int) -> _Methods:
        """Return a copy of SQLite's table, with ours in it."""
        table = self._tables.get(theirs)
        if table is None:
            table = self._tables[theirs] = _Methods.from_buffer_copy(_Methods.from_address(theirs))
            for name in _KINDS.keys() & self._ours.keys():
                if getattr(table, name):
                    setattr(table, name, ctypes.cast(self._ours[name], c_void_p).value)
        return table

    def _delete(self, vfs: int, name: int, flags: int) -> int:
        return self.ask("delete", _whole) or self._own_delete(vfs, name, flags)

    def _before(self, name: str) -> Callable[..., int]:
        def ours(file: int, *arguments: Any) -> int:
            known = self._files[file]
            own = known.own[name]

            def half() -> None:
                data, size, offset = arguments
                own(file, data, size // 2, offset)

            code = self.ask(name, half)
            if code:
                return code
            if name == "sync":
                self._unflushed.pop(known.path, None)
                return 0
            if self.remembers and name in {"write", "truncate"} and known.path:
                self._remember(file, known, name, arguments)
            return own(file, *arguments)

        return ours

    def _remember(self, file: int, known: _File, name: str, arguments: tuple[Any, ...]) -> None:
        length = c_int64()
        known.own["size"](file, length)
        if name == "write":
            _, size, offset = arguments
        else:
            offset = arguments[0]
            size = length.value - offset
        octets = ctypes.create_string_buffer(max(0, min(size, length.value - offset)))
        if len(octets):
            known.own["read"](file, ctypes.addressof(octets), len(octets), offset)
        self._unflushed.setdefault(known.path, []).append(_Before(length.value, offset, octets.raw))


def nothing(_kind: str, _half: Half) -> int:
    """Let nothing happen."""
    return 0


def _whole() -> None:
    """Do half of what cannot be halved."""
