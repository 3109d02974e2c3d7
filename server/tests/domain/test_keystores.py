"""Erasing keys that left the database."""

import pytest
from securecloud_server.domain.errors import Unavailable
from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.records import Key
from securecloud_server.keystores.memory import MemoryKeystore


class Stuck(MemoryKeystore):
    """A keystore that can be reached for everything but destroying one key."""

    def __init__(self) -> None:
        super().__init__()
        self.stuck = b""
        self.gone: list[bytes] = []

    def destroy(self, reference: bytes) -> None:
        if reference == self.stuck:
            raise Unavailable("the keystore is away")
        self.gone.append(reference)


def test_one_that_cannot_be_erased_keeps_none_of_the_others() -> None:
    store = Stuck()
    keys = [Key("d", version, "destroyed", store.name, b"%d" % version, 1) for version in (1, 2, 3)]
    elsewhere = Key("d", 4, "destroyed", "kmip", b"4", 1)
    erased = Key("d", 5, "destroyed", store.name, b"", 1)
    store.stuck = b"2"
    with pytest.raises(Unavailable) as raised:
        Keystores(store).destroy([*keys, elsewhere, erased])
    assert store.gone == [b"1", b"3"]
    assert "version 2" in str(raised.value)
    assert "still in keystore kmip" in str(raised.value)
