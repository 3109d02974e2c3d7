"""What a KMIP server, or who stands between, can do; each hazard ends in Unavailable or the key."""

import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from securecloud_server.domain.errors import Unavailable
from securecloud_server.keystores.kmip import KmipKeystore
from securecloud_server.keystores.kmip_link import connector

from tests.support.kmip import KmipServer, Meddle, Pki, Relay, running_kmip_server

SECONDS = 3.0
WAITING = threading.Event()

Connect = Callable[..., KmipKeystore]


@pytest.fixture
def connect(kmip_server: KmipServer) -> Iterator[Connect]:
    """Make a keystore on a port of this host; all are closed at the end."""
    made = []

    def connect(
        port: int, context: ssl.SSLContext | None = None, host: str = "localhost"
    ) -> KmipKeystore:
        context = context or kmip_server.pki.client_context()
        made.append(KmipKeystore(connector(host, port, context, SECONDS)))
        return made[-1]

    yield connect
    for each in made:
        each.close()


@pytest.fixture
def relay(kmip_server: KmipServer) -> Iterator[Relay]:
    relay = Relay(kmip_server)
    yield relay
    relay.close()


@pytest.fixture
def keystore(relay: Relay, connect: Connect) -> KmipKeystore:
    return connect(relay.port)


def hold(seconds: float) -> Meddle:
    def meddle(stream: ssl.SSLSocket, answer: bytes) -> None:
        WAITING.wait(seconds)
        stream.sendall(answer)

    return meddle


def drip(stream: ssl.SSLSocket, answer: bytes) -> None:
    for octet in answer:
        stream.sendall(bytes([octet]))
        WAITING.wait(SECONDS / 20)


def half(stream: ssl.SSLSocket, answer: bytes) -> None:
    stream.sendall(answer[: len(answer) // 2])
    stream.close()


def nothing(stream: ssl.SSLSocket, _answer: bytes) -> None:
    stream.close()


def instead(octets: bytes) -> Meddle:
    return lambda stream, _answer: stream.sendall(octets)


def test_a_late_answer_is_not_taken_for_the_next(relay: Relay, keystore: KmipKeystore) -> None:
    """PyKMIP's client gives the first key in answer to the second question."""
    first, second = keystore.create("dev-1", 1), keystore.create("dev-2", 1)
    wanted = keystore.fetch(second, "dev-2", 1)
    relay.meddle = hold(SECONDS * 1.5)
    with pytest.raises(Unavailable, match="did not answer within 3 s"):
        keystore.fetch(first, "dev-1", 1)
    assert keystore.fetch(second, "dev-2", 1) == wanted


@pytest.mark.parametrize(
    ("meddle", "said"),
    [
        (drip, "did not answer within 3 s"),
        (half, "hung up"),
        (instead(b"HTTP/1.1 400 Bad Request\r\n\r\n"), "does not speak KMIP"),
        (instead(b"\x42\x00\x7b\x01\x7f\xff\xff\xff"), "announced an answer of"),
        (instead(b"\x42\x00\x7b\x01\x00\x00\x00\x08" + bytes(8)), "sent what cannot be read"),
    ],
)
def test_an_answer_that_is_none(
    relay: Relay, keystore: KmipKeystore, meddle: Meddle, said: str
) -> None:
    reference = keystore.create("dev-1", 1)
    key = keystore.fetch(reference, "dev-1", 1)
    relay.meddle = meddle
    begun = time.monotonic()
    with pytest.raises(Unavailable, match=said) as refusal:
        keystore.fetch(reference, "dev-1", 1)
    assert time.monotonic() - begun < SECONDS * 2
    assert key.hex() not in repr(refusal.value)
    # By itself, as soon as the server answers again.
    assert keystore.fetch(reference, "dev-1", 1) == key


@pytest.mark.parametrize("where", range(0, 100, 2))
def test_an_answer_with_a_wrong_octet_gives_the_key_or_none(
    relay: Relay, keystore: KmipKeystore, where: int
) -> None:
    reference = keystore.create("dev-1", 1)
    key = keystore.fetch(reference, "dev-1", 1)

    def meddle(stream: ssl.SSLSocket, answer: bytes) -> None:
        changed = bytearray(answer)
        changed[where * len(changed) // 100] ^= 0x11
        stream.sendall(bytes(changed))

    relay.meddle = meddle
    try:
        assert keystore.fetch(reference, "dev-1", 1) == key
    except Unavailable as refusal:
        assert key.hex() not in repr(refusal)
    assert keystore.fetch(reference, "dev-1", 1) == key


def test_the_answer_about_another_object(relay: Relay, keystore: KmipKeystore) -> None:
    kept: list[bytes] = []

    def keep(stream: ssl.SSLSocket, answer: bytes) -> None:
        kept.append(answer)
        stream.sendall(answer)

    first, second = keystore.create("dev-1", 1), keystore.create("dev-2", 1)
    relay.meddle = keep
    keystore.fetch(first, "dev-1", 1)
    relay.meddle = instead(kept[0])
    with pytest.raises(Unavailable, match="answered about another object"):
        keystore.fetch(second, "dev-2", 1)


def test_warm_connections_are_used_again(relay: Relay, keystore: KmipKeystore) -> None:
    reference = keystore.create("dev-1", 1)
    for _ in range(20):
        keystore.fetch(reference, "dev-1", 1)
    assert relay.connections == 1
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: keystore.fetch(reference, "dev-1", 1), range(40)))
    assert relay.connections <= 4


def test_a_server_that_was_restarted_is_asked_anew(relay: Relay, keystore: KmipKeystore) -> None:
    reference = keystore.create("dev-1", 1)
    key = keystore.fetch(reference, "dev-1", 1)
    relay.hang_up()
    assert keystore.fetch(reference, "dev-1", 1) == key
    relay.hang_up()
    keystore.create("dev-2", 1)


def test_a_question_that_found_the_door_closed_is_asked_again_once(
    relay: Relay, keystore: KmipKeystore
) -> None:
    reference = keystore.create("dev-1", 1)
    relay.meddle = nothing
    assert len(keystore.fetch(reference, "dev-1", 1)) == 64
    assert relay.connections == 2


def test_a_registration_is_never_made_twice(relay: Relay, keystore: KmipKeystore) -> None:
    keystore.check()
    relay.meddle = nothing
    with pytest.raises(Unavailable, match="hung up"):
        keystore.create("dev-1", 1)
    keystore.create("dev-1", 1)


def test_a_real_server_that_goes_and_comes_back(
    tmp_path_factory: pytest.TempPathFactory, connect: Connect
) -> None:
    with running_kmip_server(tmp_path_factory.mktemp("kmip")) as server:
        keystore = connect(server.port, server.pki.client_context())
        reference = keystore.create("dev-1", 1)
        key = keystore.fetch(reference, "dev-1", 1)
        server.stop()
        for call in (keystore.check, lambda: keystore.fetch(reference, "dev-1", 1)):
            with pytest.raises(Unavailable, match="cannot be reached: Connection refused"):
                call()
        server.start()
        keystore.check()
        assert keystore.fetch(reference, "dev-1", 1) == key


def test_the_name_of_the_server_is_verified(kmip_server: KmipServer, connect: Connect) -> None:
    """PyKMIP's client takes any name."""
    other = Relay(kmip_server, ["keys.example.org"])
    with pytest.raises(Unavailable, match="no certificate to trust: Hostname mismatch"):
        connect(other.port).check()
    other.close()


def test_another_ca_is_not_trusted(
    kmip_server: KmipServer, connect: Connect, tmp_path_factory: pytest.TempPathFactory
) -> None:
    stranger = Pki(tmp_path_factory.mktemp("pki"))
    with pytest.raises(Unavailable, match="no certificate to trust"):
        connect(kmip_server.port, stranger.client_context()).check()


def test_another_clients_key_is_none(kmip_server: KmipServer, connect: Connect) -> None:
    reference = connect(kmip_server.port).create("dev-1", 1)
    other = connect(kmip_server.port, kmip_server.pki.client_context("somebody"))
    with pytest.raises(Unavailable):
        other.fetch(reference, "dev-1", 1)


def test_a_key_that_was_revoked_in_the_server_is_refused(
    kmip_server: KmipServer, connect: Connect
) -> None:
    """Get alone would return it."""
    keystore = connect(kmip_server.port)
    reference = keystore.create("dev-1", 1)
    link = connector("localhost", kmip_server.port, kmip_server.pki.client_context(), SECONDS)()
    link.revoke(reference[17:].decode())
    assert len(link.get(reference[17:].decode())[1]) == 64
    link.close()
    with pytest.raises(Unavailable, match="its state in the KMIP server is DEACTIVATED"):
        keystore.fetch(reference, "dev-1", 1)
    keystore.destroy(reference)


def test_a_destroyed_key_is_gone(kmip_server: KmipServer, connect: Connect) -> None:
    keystore = connect(kmip_server.port)
    reference = keystore.create("dev-1", 1)
    keystore.destroy(reference)
    with pytest.raises(Unavailable, match="does not have it"):
        keystore.fetch(reference, "dev-1", 1)


def test_keys_of_another_keystore_are_no_references(
    kmip_server: KmipServer, connect: Connect
) -> None:
    with pytest.raises(Unavailable, match="not a reference of this keystore"):
        connect(kmip_server.port).fetch(b"\x01" + bytes(16) + b"\xff", "dev-1", 1)


def test_nothing_of_a_key_is_logged(
    kmip_server: KmipServer, connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    keystore = connect(kmip_server.port)
    reference = keystore.create("dev-1", 1)
    key = keystore.fetch(reference, "dev-1", 1)
    assert key.hex() not in caplog.text
