"""The transport against real TLS servers: what goes wrong is told apart, and nothing hangs."""

import socket
import ssl
import threading
from contextlib import closing, contextmanager, suppress
from datetime import timedelta

import pytest
from securecloud_agent.client.connection import Connection, Peers
from securecloud_agent.client.failures import NotTrustedError, UnreachableError
from securecloud_agent.client.race import first
from securecloud_agent.client.tls import Deadline, explain_network, make_context
from securecloud_agent.errors import ConfigError

from .certificates import Authority

PATH = "/agent/v1/enrol"


@pytest.fixture
def peers(authority) -> Peers:
    return Peers(authority.ca_file)


@contextmanager
def connection(url, peers, seconds=5.0):
    with closing(Connection(url, peers, Deadline(seconds))) as opened:
        yield opened


def get(url, peers, seconds=5.0) -> bytes:
    with connection(url, peers, seconds) as opened:
        return opened.request("GET", PATH)


@contextmanager
def raw_server(talk):
    """A TCP server for one connection that `talk` handles."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        with server.accept()[0] as peer:
            peer.settimeout(10)
            talk(peer)

    thread = threading.Thread(target=serve)
    thread.start()
    yield f"https://127.0.0.1:{server.getsockname()[1]}"
    thread.join()
    server.close()


def test_one_connection_serves_a_whole_exchange(listener, peers):
    with connection(listener.url, peers) as opened:
        for _ in range(3):
            assert b'"server"' in opened.request("GET", PATH)
        assert listener.connections == 1
        assert opened.certificate
        assert not opened.resent


def test_idle_connection_that_the_server_closed_is_made_again(listener, peers):
    listener.faults = ["close", "drop", None]
    with connection(listener.url, peers) as opened:
        opened.request("GET", PATH)
        with pytest.raises(UnreachableError):
            opened.request("GET", PATH)
        assert b'"server"' in opened.request("GET", PATH)


def test_message_is_sent_again_on_a_new_connection_only_when_the_old_one_was_kept(listener, peers):
    with connection(listener.url, peers) as opened:
        opened.request("GET", PATH)
        listener.faults = ["drop", None]
        opened.request("GET", PATH)
        assert opened.resent
        assert listener.connections == 2


def test_nothing_ever_goes_out_without_tls(listener, peers, monkeypatch):
    def plain(*_arguments, **_options):
        raise AssertionError("http.client opened a connection of its own")

    monkeypatch.setattr("http.client.HTTPConnection.connect", plain)
    listener.faults = [None, "drop", "drop", "drop", "close", "drop", None]
    with connection(listener.url, peers) as opened:
        for _ in range(6):
            with suppress(UnreachableError):
                opened.request("GET", PATH)
        assert b'"server"' in opened.request("GET", PATH)


def test_wrong_ca(listener, tmp_path):
    with pytest.raises(NotTrustedError, match=r"not issued by the CA in agent\.ca_file"):
        get(listener.url, Peers(Authority(tmp_path, "other CA").ca_file))


def test_host_name_mismatch_shows_the_names(listen, authority, peers):
    listener = listen(authority.issue("elsewhere", ("server.example", "10.1.1.1")))
    with pytest.raises(
        NotTrustedError, match=r"another host name \(it names server\.example, 10\."
    ):
        get(listener.url, peers)


def test_expired_certificate_says_how_far_off(listen, authority, peers):
    certificate = authority.issue(
        "old", begin=timedelta(days=-1), end=timedelta(hours=-3, minutes=-1)
    )
    with pytest.raises(NotTrustedError, match=r"expired by this machine's clock.* 3 hours or more"):
        get(listen(certificate).url, peers)


def test_certificate_of_the_future_says_how_far_off(listen, authority, peers):
    certificate = authority.issue("new", begin=timedelta(days=1, hours=1))
    with pytest.raises(
        NotTrustedError, match=r"not yet valid by this machine's clock.* 1 day behind"
    ):
        get(listen(certificate).url, peers)


def test_old_tls_is_refused(listen, peers):
    with pytest.raises(NotTrustedError, match="does not speak TLS 1"):
        get(listen(tls="1.2").url, peers)


def test_plain_http_is_told(peers):
    def talk(peer):
        peer.recv(4096)
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with (
        raw_server(talk) as url,
        pytest.raises(NotTrustedError, match="does not speak TLS"),
    ):
        get(url, peers)


def test_nobody_listens(peers):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(UnreachableError, match="connection refused; is the management server"):
        get(f"https://127.0.0.1:{port}", peers)


def test_unknown_host(peers):
    with pytest.raises(UnreachableError, match="cannot be resolved"):
        get("https://no-such-host.invalid", peers)


def test_silent_server_ends_with_the_deadline(peers):
    def talk(peer):
        while peer.recv(4096):
            pass

    with raw_server(talk) as url, pytest.raises(UnreachableError, match="no answer in time"):
        get(url, peers, 0.2)


def test_dripping_server_ends_with_the_deadline(certificate, peers):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.pem_file)
    gone = threading.Event()

    def talk(peer):
        with context.wrap_socket(peer, server_side=True) as secured:
            secured.recv(4096)
            secured.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
            try:
                while not gone.wait(0.02):
                    secured.sendall(b"x")
            except OSError:
                return

    with raw_server(talk) as url, pytest.raises(UnreachableError, match="no answer in time"):
        try:
            get(url, peers, 0.3)
        finally:
            gone.set()


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("huge", NotTrustedError, "longer than 262144 octets"),
        ("status 502", UnreachableError, "HTTP status 502; see the server's log"),
        ("status 404", UnreachableError, "HTTP status 404"),
        ("status 200", NotTrustedError, "no SecureCloud message"),
        ("status 301", NotTrustedError, "no SecureCloud message"),
        ("drop", UnreachableError, "the connection broke"),
    ],
)
def test_answers_that_are_none(listener, peers, fault, error, message):
    listener.faults = [fault]
    with pytest.raises(error, match=message):
        get(listener.url, peers)


def test_not_http(certificate, peers):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.pem_file)

    def talk(peer):
        with context.wrap_socket(peer, server_side=True) as secured:
            secured.recv(4096)
            secured.sendall(b"220 mail.example ESMTP\r\n")

    with raw_server(talk) as url, pytest.raises(UnreachableError, match="does not speak HTTP"):
        get(url, peers)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_ca_file_that_is_none(tmp_path, content):
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"agent\.ca_file: .*ca\.pem"):
        make_context(path)


def test_no_route_is_told():
    error = explain_network(OSError(113, "No route to host"), "https://a")
    assert str(error) == "https://a: No route to host"


class Contender:
    """Answers, fails or waits until it is closed."""

    def __init__(self, url: str, answer: object = None) -> None:
        self.url = url
        self._answer = answer
        self.closed = threading.Event()
        self.started = threading.Event()

    def run(self) -> object:
        self.started.set()
        if self._answer is None:
            self.closed.wait(10)
            raise UnreachableError(f"{self.url}: closed")
        if isinstance(self._answer, BaseException):
            raise self._answer
        return self._answer

    def close(self) -> None:
        self.closed.set()


def test_slow_server_is_overtaken_and_closed():
    slow, quick, spare = Contender("slow"), Contender("quick", "answer"), Contender("spare", "x")
    assert first([slow, quick, spare], Deadline(5), 0.01) == "answer"
    assert slow.closed.is_set()
    assert not spare.started.is_set()


def test_failed_server_makes_the_next_start_at_once():
    dead, quick = Contender("dead", UnreachableError("dead: refused")), Contender("quick", "answer")
    assert first([dead, quick], Deadline(5), start_delay=100) == "answer"


def test_deadline_ends_the_race_and_names_who_was_silent():
    silent = [Contender("one"), Contender("two")]
    with pytest.raises(UnreachableError, match="one: no answer in time; two: no answer in time"):
        first(silent, Deadline(0.1), 0.01)
    assert all(each.closed.is_set() for each in silent)


def test_failure_that_tells_most_comes_first():
    contenders = [
        Contender("one", UnreachableError("one: refused")),
        Contender("two", NotTrustedError("two: wrong CA")),
    ]
    with pytest.raises(NotTrustedError, match="two: wrong CA; one: refused"):
        first(contenders, Deadline(5), 0.01)


def test_programming_error_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        first([Contender("one", ZeroDivisionError())], Deadline(5))
