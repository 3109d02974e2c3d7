import io
import json
import stat

import pytest
from securecloud_agent.main import main
from securecloud_protocol.errors import ErrorCode

from .simulator import Management


@pytest.fixture
def enrol(home, capsys):
    def run(token: str) -> tuple[int, dict, str]:
        arguments = ["--config", str(home.config), "enrol", "--json"]
        status = main([*arguments, "--token-file", home.token_file(token)])
        captured = capsys.readouterr()
        return status, json.loads(captured.out or "{}"), captured.err

    return run


def test_enrolment_binds_and_is_idempotent(home, listener, management, enrol):
    home.configure(listener.url)
    status, result, _ = enrol(management.token())
    assert status == 0
    assert result == {
        "changed": True,
        "agent_id": management.names["web1"],
        "agent_name": "web1",
        "server_id": management.responder.identity.server_id,
        "fingerprint": management.responder.fingerprint,
    }
    assert stat.S_IMODE(home.state.stat().st_mode) == 0o700
    for file in ("identity.key", "server.json"):
        assert stat.S_IMODE((home.state / file).stat().st_mode) == 0o600
    listener.requests.clear()
    second = management.token()
    status, again, _ = enrol(second)
    assert (status, again) == (0, {**result, "changed": False})
    assert listener.requests == []
    assert len(management.tokens) == 1


def test_token_may_be_gone_once_enrolled(home, listener, management, enrol):
    home.configure(listener.url)
    enrol(management.token())
    assert enrol("")[1]["changed"] is False


def test_token_on_standard_input(home, listener, management, monkeypatch, capsys):
    home.configure(listener.url)
    monkeypatch.setattr("sys.stdin", io.StringIO(management.token() + "\n"))
    assert main(["--config", str(home.config), "enrol", "--token-file", "-"]) == 0
    assert "enrolled as web1" in capsys.readouterr().err


def test_server_that_the_token_does_not_name_gets_nothing(home, listener, management, enrol, clock):
    home.configure(listener.url)
    other = Management(clock, [])
    status, _, err = enrol(other.token())
    assert status == 1
    assert "not the one that the enrolment token names" in err
    assert listener.requests == [("GET", "/agent/v1/enrol")]
    assert not (home.state / "server.json").exists()


def test_used_token_is_refused_and_leaves_no_binding(home, listener, management, enrol):
    home.configure(listener.url)
    token = management.token()
    management.tokens.clear()
    status, _, err = enrol(token)
    assert status == 1
    assert "enrolment_refused" in err
    assert "used, expired or revoked" in err
    assert token not in err
    assert not (home.state / "server.json").exists()
    assert enrol(management.token())[0] == 0


def test_taken_name_is_refused(home, listener, management, enrol):
    management.names["web1"] = "other"
    home.configure(listener.url)
    status, _, err = enrol(management.token())
    assert status == 1
    assert "retire that agent first" in err


@pytest.mark.parametrize(
    ("token", "message"),
    [("nonsense", "not an enrolment token"), ("", "there is no enrolment token in")],
)
def test_bad_tokens(home, listener, enrol, token, message):
    home.configure(listener.url)
    status, _, err = enrol(token)
    assert status == 1
    assert message in err
    assert listener.requests == []


def test_another_server_or_name_is_a_conflict(home, listener, management, enrol, clock):
    home.configure(listener.url)
    enrol(management.token())
    status, _, err = enrol(Management(clock, []).token())
    assert (status, "the token is for another one" in err) == (1, True)
    home.configure(listener.url, name="web2")
    status, _, err = enrol(management.token())
    assert (status, "enrolled as web1" in err) == (1, True)


def test_second_server_is_asked_when_the_first_is_away(home, listener, management, enrol):
    home.configure("https://127.0.0.1:1", listener.url)
    assert enrol(management.token())[0] == 0


@pytest.mark.parametrize("code", list(ErrorCode))
def test_every_code_has_a_remedy(home, listener, management, enrol, code):
    home.configure(listener.url)
    listener.faults = [None, code]
    status, _, err = enrol(management.token())
    assert status == 1
    assert f"enrolment: {code.value}" in err
    assert len(err) > 80
