"""All keys, for what has to be done to each of them in turn."""

from collections.abc import Callable, Iterator

from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.records import Device, Key

_PAGE = 100

Progress = Callable[[int, int], None]
"""Told how many keys were seen to, of how many."""


def every_key(tx: Transaction) -> Iterator[tuple[Device, Key]]:
    """Yield every version of every device's key that was not destroyed, by the device's name."""
    after = None
    while devices := tx.devices.page(after, _PAGE, {}):
        by_id = {device.device_id: device for device in devices}
        for key in tx.keys.versions(list(by_id)):
            if key.state != "destroyed":
                yield by_id[key.device_id], key
        after = devices[-1].name


def unchanged(tx: Transaction, key: Key) -> Key | None:
    """Return what the record of `key` is by now; None where it is gone or refers to another one."""
    for now in tx.keys.versions([key.device_id]):
        if now.version == key.version and now.reference == key.reference:
            return now
    return None
