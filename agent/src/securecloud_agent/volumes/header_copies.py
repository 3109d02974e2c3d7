"""Copies of LUKS headers, for the day when one is damaged on its disk.

A header holds the volume's key only encrypted under the device's key, so a copy opens nothing
without the server's grant. It is kept in the form that `cryptsetup luksHeaderRestore` takes.
"""

import os
from pathlib import Path

from securecloud_agent.errors import warned
from securecloud_agent.state.files import StateError, private_directory, remove, write_file
from securecloud_agent.volumes.header import COPY_BYTES


class HeaderCopies:
    """One file a device in `folder`, which is made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def of(self, device: str) -> Path | None:
        """Return the file with the copy of `device`'s header, if there is one."""
        path = self._path(device)
        return path if path.exists() else None

    def keep(self, device: str, header: bytes) -> None:
        """Keep the header that just opened the volume, unless it is kept already.

        A machine that cannot, for want of room on its root disk, has its volume all the same.
        """
        with warned(f"{device}: no copy of its LUKS header was kept"):
            if not self._is_kept(device, header):
                private_directory(self._folder)
                write_file(self._path(device), header)
                # The rest of the area is unused: a hole in the file.
                self._extend(device)

    def put(self, device: str, header: bytes) -> None:
        """Keep the header in the place of one that opens with a key that nobody releases: better
        none than that.
        """
        self.keep(device, header)
        if not self._is_kept(device, header):
            with warned(f"{device}: an old copy of its LUKS header is still on this machine"):
                remove(self._path(device))

    def _path(self, device: str) -> Path:
        return self._folder / f"{device}.luks"

    def _is_kept(self, device: str, header: bytes) -> bool:
        try:
            with self._path(device).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                return size == COPY_BYTES and file.read(len(header)) == header
        except OSError:
            return False

    def _extend(self, device: str) -> None:
        try:
            os.truncate(self._path(device), COPY_BYTES)
        except OSError as error:
            raise StateError(f"{self._path(device)} cannot be written: {error.strerror}") from None
