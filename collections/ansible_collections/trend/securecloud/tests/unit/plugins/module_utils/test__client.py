# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The API client against a real TLS server: what it sends, and what it makes of each answer."""

from __future__ import annotations

import json
import socket
import ssl
import threading

import pytest
from ansible_collections.trend.securecloud.plugins.module_utils._client import Client, path_of
from ansible_collections.trend.securecloud.plugins.module_utils._errors import (
    ApiError,
    CertificateNotValidNow,
    CertificateProblem,
    Conflict,
    ConnectionFailed,
    InvalidOption,
    NotFound,
    NotSecureCloud,
    PreconditionFailed,
    ServerTimeout,
    ServerUnreachable,
    WrongHostName,
)
from ansible_collections.trend.securecloud.tests.unit.certificates import DAY, Authority
from ansible_collections.trend.securecloud.tests.unit.stub import TOKEN, StubServer


@pytest.fixture
def client(stub, authority):
    return Client(stub.url, str(authority.ca_file), TOKEN, 5)


@pytest.fixture
def listener():
    """A socket that accepts and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def url_of(listening):
    return f"https://127.0.0.1:{listening.getsockname()[1]}"


def test_an_object_comes_with_its_etag(client, stub):
    stub.replies.append((200, {"name": "web"}, {"ETag": '"v1"'}))
    reply = client.get("/policies/web")
    assert reply.body == {"name": "web"}
    assert reply.etag == '"v1"'
    assert stub.requests[0][:2] == ("GET", "/api/v1/policies/web")


def test_what_does_not_exist_is_none(client, stub):
    stub.replies.append((404, {"code": "not_found", "detail": "there is no policy 'web'"}))
    assert client.find("/policies/web") is None


def test_a_list_is_read_page_by_page(client, stub):
    stub.replies += [
        (200, {"items": [{"name": "a"}, {"name": "b"}], "next_cursor": "n/1"}),
        (200, {"items": [{"name": "c"}], "next_cursor": None}),
    ]
    items = client.items("/devices", {"agent": "web1", "group": None}, limit=2)
    assert [item["name"] for item in items] == ["a", "b", "c"]
    assert [request[1] for request in stub.requests] == [
        "/api/v1/devices?agent=web1&limit=2",
        "/api/v1/devices?agent=web1&limit=2&cursor=n%2F1",
    ]


def test_a_page_that_is_not_needed_is_not_asked_for(client, stub):
    stub.replies.append((200, {"items": [{"name": "a"}], "next_cursor": "more"}))
    assert next(client.items("/devices")) == {"name": "a"}
    assert len(stub.requests) == 1


def test_an_edit_names_the_version_it_is_based_on(client, stub):
    stub.replies.append((200, {"name": "web"}))
    client.put("/policies/web", {"description": "x"}, '"v1"')
    headers, body = stub.requests[0][2:]
    assert headers["If-Match"] == '"v1"'
    assert json.loads(body) == {"description": "x"}


def test_a_new_object_must_not_be_there_already(client, stub):
    stub.replies.append((201, {"name": "web"}))
    client.put("/policies/web", {}, None)
    assert stub.requests[0][2]["If-None-Match"] == "*"


def test_a_deletion_may_have_no_body(client, stub):
    stub.replies.append((204, None))
    client.delete("/policies/web", '"v1"')
    assert stub.requests[0][2]["If-Match"] == '"v1"'


def test_a_problem_names_its_fields(client, stub):
    wrong = {
        "field": "rules[0].fact",
        "expected": "one of host_name, os.id",
        "message": "unknown fact 'hostname'",
    }
    stub.replies.append((422, {"code": "invalid_request", "errors": [wrong]}))
    with pytest.raises(ApiError, match=r"rules\[0\].fact: unknown fact 'hostname'") as raised:
        client.put("/policies/web", {}, None)
    result = raised.value.result()
    assert (result["status"], result["code"], result["errors"]) == (422, "invalid_request", [wrong])


@pytest.mark.parametrize(
    ("status", "error"), [(404, NotFound), (409, Conflict), (412, PreconditionFailed)]
)
def test_statuses_that_callers_tell_apart(client, stub, status, error):
    stub.replies.append((status, {"code": "x", "detail": "d"}))
    with pytest.raises(error):
        client.get("/policies/web")


def test_a_wrong_token_is_said_to_be_refused(stub, authority):
    client = Client(stub.url, str(authority.ca_file), "sct.other.secret", 5)
    with pytest.raises(ApiError, match=r"\(401 not_authenticated\): no such token"):
        client.get("/policies")


def test_the_token_is_taken_out_of_what_the_server_says(client, stub):
    stub.replies.append((400, {"code": "x", "detail": f"bad header Bearer {TOKEN}"}))
    with pytest.raises(ApiError) as raised:
        client.get("/policies")
    assert TOKEN not in str(raised.value.result())
    assert "********" in str(raised.value)


def test_a_redirection_is_not_followed(client, stub):
    stub.replies.append((302, {}, {"Location": "https://elsewhere.example/"}))
    with pytest.raises(ApiError, match=r"\(302 problem\): the answer is not a problem document"):
        client.get("/policies")
    assert len(stub.requests) == 1


def test_a_proxy_in_the_environment_is_not_used(client, stub, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    stub.replies.append((200, {}))
    assert client.get("/server").status == 200


def test_an_authority_that_is_not_ours_is_refused(stub, tmp_path):
    other = Authority(tmp_path)
    client = Client(stub.url, str(other.ca_file), TOKEN, 5)
    with pytest.raises(CertificateProblem, match=r"not issued by the authority in .*ca.pem"):
        client.get("/policies")
    assert not stub.requests


@pytest.mark.parametrize(
    ("valid", "words"), [((DAY, 2 * DAY), "not valid yet"), ((-2 * DAY, -DAY), "expired")]
)
def test_a_certificate_outside_its_time_is_refused_by_our_clock(authority, valid, words):
    with StubServer(authority.server_context(valid=valid), TOKEN) as stub:
        client = Client(stub.url, str(authority.ca_file), TOKEN, 5)
        with pytest.raises(CertificateNotValidNow, match=f"{words} by this machine's clock"):
            client.get("/policies")


def test_a_certificate_for_another_host_is_refused(authority):
    with StubServer(authority.server_context(names=("192.0.2.1",)), TOKEN) as stub:
        client = Client(stub.url, str(authority.ca_file), TOKEN, 5)
        with pytest.raises(WrongHostName, match=r"for another host name"):
            client.get("/policies")


def test_an_older_tls_is_refused(authority):
    context = authority.server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with StubServer(context, TOKEN) as stub:
        client = Client(stub.url, str(authority.ca_file), TOKEN, 5)
        with pytest.raises(NotSecureCloud, match=r"does not speak TLS 1.3"):
            client.get("/policies")


def test_nothing_listens(listener, authority):
    url = url_of(listener)
    listener.close()
    with pytest.raises(ServerUnreachable, match=r"nothing listens at"):
        Client(url, str(authority.ca_file), TOKEN, 5).get("/policies")


def test_a_host_name_that_does_not_exist(authority):
    client = Client("https://keys.invalid", str(authority.ca_file), TOKEN, 5)
    with pytest.raises(ServerUnreachable, match=r"keys.invalid cannot be resolved"):
        client.get("/policies")


def test_a_server_that_does_not_answer(listener, authority):
    with pytest.raises(ServerTimeout, match=r"did not answer within 0.2 seconds"):
        Client(url_of(listener), str(authority.ca_file), TOKEN, 0.2).get("/policies")


def test_something_that_is_not_tls(listener, authority):
    def answer():
        peer, _address = listener.accept()
        with peer:
            peer.recv(4096)
            peer.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n")

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(NotSecureCloud, match=r"does not speak TLS"):
        Client(url_of(listener), str(authority.ca_file), TOKEN, 5).get("/policies")
    thread.join()


@pytest.mark.parametrize(
    "answer", [b"hello, this is no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"]
)
def test_something_that_is_no_securecloud_server(client, stub, answer):
    stub.replies.append(answer)
    with pytest.raises(NotSecureCloud):
        client.get("/policies")


def test_a_connection_that_ends_without_an_answer(client, stub):
    stub.replies.append(b"")
    with pytest.raises(ConnectionFailed, match=r"closed the connection without an answer"):
        client.get("/policies")


@pytest.mark.parametrize(
    "url", ["http://h", "https://", "https://h/path", "https://h:99999", "https://u:p@h", "h", ""]
)
def test_a_url_of_another_shape_is_refused(url, authority):
    with pytest.raises(InvalidOption, match=r"server_url: .* is not https://HOST"):
        Client(url, str(authority.ca_file), TOKEN)


def test_a_ca_file_that_is_not_there(tmp_path):
    with pytest.raises(InvalidOption, match=r"ca_file: cannot read .*No such file"):
        Client("https://h", str(tmp_path / "none.pem"), TOKEN)


def test_a_ca_file_without_a_certificate(tmp_path):
    empty = tmp_path / "ca.pem"
    empty.write_text("no certificate\n")
    with pytest.raises(InvalidOption, match=r"ca_file: there is no certificate in"):
        Client("https://h", str(empty), TOKEN)


def test_names_are_escaped_in_paths():
    assert path_of("devices", "../x?y") == "/devices/..%2Fx%3Fy"
    assert path_of("keys", "web1:revoke") == "/keys/web1:revoke"
