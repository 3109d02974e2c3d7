# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A file that holds one secret and is readable by its owner alone. Private to this collection."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress

from ansible_collections.trend.securecloud.plugins.module_utils._errors import InvalidOption

_PRIVATE = 0o600


class SecretFile:
    """The file at an absolute path; it is replaced as a whole, so no reader sees half of it."""

    def __init__(self, path: str) -> None:
        self._path = path

    def exists(self) -> bool:
        """Return whether there is such a file."""
        return os.path.lexists(self._path)

    def read(self) -> str:
        """Return the text in it; empty when there is no file, or it is not text."""
        try:
            with open(self._path, encoding="ascii") as file:
                return file.read().strip()
        except (FileNotFoundError, UnicodeDecodeError):
            return ""
        except OSError as error:
            raise self._refusal("read", error) from None

    def is_private(self) -> bool:
        """Return whether its owner alone may read it."""
        return stat.S_IMODE(os.stat(self._path).st_mode) == _PRIVATE

    def make_private(self) -> None:
        """Let its owner alone read it."""
        os.chmod(self._path, _PRIVATE)

    def write(self, text: str) -> None:
        """Put `text` into the file."""
        try:
            descriptor, part = tempfile.mkstemp(dir=os.path.dirname(self._path))
        except OSError as error:
            raise self._refusal("write", error) from None
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                file.write(text + "\n")
            os.replace(part, self._path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(part)
            raise self._refusal("write", error) from None

    def remove(self) -> None:
        """Remove the file."""
        try:
            os.unlink(self._path)
        except OSError as error:
            raise self._refusal("remove", error) from None

    def _refusal(self, verb: str, error: OSError) -> InvalidOption:
        message = f"cannot {verb} {self._path}: {error.strerror}"
        return InvalidOption("dest", "a file in a directory that exists", message)
