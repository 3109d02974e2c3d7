"""Overwrites what is left of a secret in this process's memory.

A key arrives as text inside a message, and the interpreter copies it while it decodes: into octets
and text that nobody can reach afterwards and that stay in freed memory until something else is
written there. The kernel would not clear them at the end of the process either. So all of this
process's own memory is searched, for pieces, as an allocator's own notes may have hit a copy.
"""

import ctypes
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from securecloud_protocol.encoding import b64u_encode

from securecloud_agent.errors import warn

_PIECE = 16
_CHUNK = 1024 * 1024
# Fewer different octets are no piece of a random key, and might be anything else's.
_DISTINCT = 6


class _Span(ctypes.Structure):
    """struct iovec of process_vm_readv(2)."""

    _fields_ = (("start", ctypes.c_void_p), ("size", ctypes.c_size_t))


# PyDLL keeps other threads of this interpreter from running between a look and a stroke.
_LIBRARY = ctypes.PyDLL(None, use_errno=True)
_SPAN = ctypes.POINTER(_Span)
for _name in ("process_vm_readv", "process_vm_writev"):
    _function = getattr(_LIBRARY, _name)
    _function.restype = ctypes.c_ssize_t
    _function.argtypes = [
        *(ctypes.c_int, _SPAN, ctypes.c_ulong, _SPAN, ctypes.c_ulong, ctypes.c_ulong)
    ]
_LIBRARY.memmem.restype = ctypes.c_void_p
_LIBRARY.memmem.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]


def forget(secrets: Iterable[bytes | None]) -> None:
    """Overwrite every copy of `secrets`, as octets and as base64url; also the ones given."""
    pieces = {piece for secret in secrets if secret for piece in _pieces(secret)}
    pieces = {piece for piece in pieces if len(set(piece)) >= _DISTINCT}
    if not pieces:
        return
    sweep = _Sweep(sorted(pieces))
    del pieces
    try:
        sweep.work()
    except OSError as error:
        warn(f"copies of a key stay in memory until this process ends: {error.strerror}")
    finally:
        sweep.end()


def _pieces(secret: bytes) -> Iterator[bytes]:
    for form in (secret, b64u_encode(secret).encode()):
        yield from (form[at : at + _PIECE] for at in range(0, len(form) - _PIECE + 1, _PIECE))
        yield form[-_PIECE:]


class _Sweep:
    """One search. What it looks for and looks with is kept out of it, and overwritten last."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._wanted = ctypes.create_string_buffer(b"".join(pieces), len(pieces) * _PIECE)
        self._window = ctypes.create_string_buffer(_CHUNK)
        self._zeros = ctypes.create_string_buffer(_PIECE)
        self._own = [
            range(ctypes.addressof(each), ctypes.addressof(each) + len(each))
            for each in (self._wanted, self._window)
        ]

    def work(self) -> None:
        for start, end in _writable_regions():
            for place in range(start, end, _CHUNK - _PIECE):
                self._look(place, min(_CHUNK, end - place))

    def end(self) -> None:
        for buffer in (self._wanted, self._window):
            ctypes.memset(buffer, 0, len(buffer))

    def _look(self, place: int, size: int) -> None:
        window = ctypes.addressof(self._window)
        # Less than asked for, or nothing, where memory was given back meanwhile.
        size = max(0, self._transfer(_LIBRARY.process_vm_readv, window, place, size))
        first = ctypes.addressof(self._wanted)
        for piece in range(first, first + len(self._wanted), _PIECE):
            at = window
            while at := _LIBRARY.memmem(at, window + size - at, piece, _PIECE) or 0:
                self._overwrite(place + at - window)
                at += _PIECE

    def _overwrite(self, place: int) -> None:
        if not any(place in each for each in self._own):
            zeros = ctypes.addressof(self._zeros)
            self._transfer(_LIBRARY.process_vm_writev, zeros, place, _PIECE)

    def _transfer(self, call: "ctypes._NamedFuncPointer", here: int, there: int, size: int) -> int:
        near, far = _Span(here, size), _Span(there, size)
        done: int = call(os.getpid(), ctypes.byref(near), 1, ctypes.byref(far), 1, 0)
        if done < 0:
            number = ctypes.get_errno()
            if number != _GONE:
                raise OSError(number, os.strerror(number))
        return done


_GONE = 14  # EFAULT


def _writable_regions() -> list[tuple[int, int]]:
    """Return the beginning and end of each (proc(5), /proc/PID/maps)."""
    found = []
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        span, modes, *_ = line.split(" ", 2)
        if modes.startswith("rw"):
            start, end = span.split("-")
            found.append((int(start, 16), int(end, 16)))
    return found
