import io
import json
import stat
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securecloud_agent.config import complete, load, render
from securecloud_agent.errors import ConfigError
from securecloud_agent.main import main

GOOD = {"agent": {"name": "web1", "servers": ["https://server.example:8443"]}}


def settings(**agent):
    return {"agent": {**GOOD["agent"], **agent}}


def test_defaults_are_filled_in_and_survive_toml():
    tree = complete(GOOD)
    assert tree["unlock"]["deadline"] == 60
    assert tree["agent"]["ca_file"] == "/etc/securecloud/ca.pem"
    assert tomllib.loads(render(tree)) == tree
    assert complete(tree) == tree


@given(st.text(st.characters(codec="utf-8"), max_size=128))
def test_any_accepted_text_is_written_as_it_was_given(text):
    try:
        tree = complete({**GOOD, "location": {"region": text}})
    except ConfigError:
        assert not text.isprintable()
        return
    assert tomllib.loads(render(tree))["location"]["region"] == text


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([], "settings: expected an object"),
        ({}, "agent.name: is required"),
        ({"agent": {"name": "web1"}}, "agent.servers: is required"),
        ({**GOOD, "extra": {}}, "extra: unknown section; expected one of agent, unlock"),
        ({**GOOD, "unlock": {"dead": 1}}, "unlock.dead: unknown setting; expected one of deadline"),
        ({**GOOD, "unlock": {"deadline": True}}, "unlock.deadline: expected whole seconds"),
        ({**GOOD, "unlock": {"deadline": 601}}, "unlock.deadline: expected whole seconds from 5"),
        ({**GOOD, "probes": 3}, "probes: expected an object"),
        ({**GOOD, "location": {"provider": "../x"}}, "location.provider: expected the name"),
        ({**GOOD, "location": {"zone": "a\nb"}}, "location.zone: expected printable text"),
        (settings(name="Web 1"), "agent.name: expected 1 to 63"),
        (settings(ca_file="ca.pem"), "agent.ca_file: expected an absolute path"),
        (settings(servers=[]), "agent.servers: expected a list of 1"),
        (settings(servers=["http://a"]), r"agent.servers\[0\]: expected https://HOST"),
        (settings(servers=["https://a", "https://a/"]), "agent.servers: the same URL"),
        (settings(servers=["https://a/b"]), r"agent.servers\[0\]"),
        (settings(servers=["https://u:p@a"]), r"agent.servers\[0\]"),
        (settings(servers=["https://a:99999"]), r"agent.servers\[0\]"),
        (settings(servers=["https://[::1"]), r"agent.servers\[0\]"),
        (settings(servers=[7]), r"agent.servers\[0\]"),
    ],
)
def test_wrong_settings_are_named(wrong, message):
    with pytest.raises(ConfigError, match=message):
        complete(wrong)


def test_file_errors_say_which_file(tmp_path):
    path = tmp_path / "agent.toml"
    with pytest.raises(ConfigError, match="does not exist; write it with"):
        load(path)
    path.write_text("a = = b")
    with pytest.raises(ConfigError, match="is not TOML"):
        load(path)
    path.write_text("[agent]\nname = 3\n")
    with pytest.raises(ConfigError, match=r"agent\.toml: agent\.name: expected"):
        load(path)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def configure(home, monkeypatch, capsys):
    def run(given: object, *options: str) -> tuple[int, dict]:
        monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(given)))
        status = main(["--config", str(home.config), "configure", "--json", *options])
        return status, json.loads(capsys.readouterr().out or "{}")

    return run


def test_configure_quartet(home, configure):
    _, result = configure(home.settings(), "--check")
    assert result["changed"]
    assert result["diff"]["before"] == ""
    assert not home.config.exists()
    _, applied = configure(home.settings())
    assert applied == result
    assert home.config.read_text() == applied["diff"]["after"]
    assert stat.S_IMODE(home.config.stat().st_mode) == 0o640
    assert configure(home.settings())[1]["changed"] is False
    assert configure(home.settings(), "--check")[1]["changed"] is False
    _, changed = configure(home.settings(name="web2"))
    assert changed["changed"]
    assert '"web1"' in changed["diff"]["before"]


def test_refused_settings_leave_the_file_alone(home, configure, monkeypatch, capsys):
    configure(home.settings())
    before = home.config.read_text()
    assert configure({"agent": {"nam": "x"}})[0] == 1
    monkeypatch.setattr("sys.stdin", io.StringIO("{"))
    assert main(["--config", str(home.config), "configure"]) == 1
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    assert main(["--config", str(home.config), "configure"]) == 1
    assert "nothing came on standard input" in capsys.readouterr().err
    assert home.config.read_text() == before
    assert [path.name for path in home.config.parent.iterdir()] == ["agent.toml"]


def test_configuration_tool_asks_with_defaults(home, monkeypatch, capsys):
    answers = ["web7", "ftp://wrong", "https://a:1, https://b:2", "", "", "", "soon", "30",
               "both", "systemd", "", "eu-central", "-", "", ""]  # fmt: skip
    monkeypatch.setattr("sys.stdin", Terminal("\n".join(answers) + "\n"))
    assert main(["--config", str(home.config), "configure", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["changed"]
    assert "agent.servers[0]: expected https://HOST" in captured.err
    assert "unlock.deadline: expected whole seconds" in captured.err
    assert "unlock.mounts: expected direct or systemd" in captured.err
    found = load(home.config)
    assert (found.name, found.servers, found.deadline) == (
        "web7",
        ("https://a:1", "https://b:2"),
        30,
    )
    assert found.location == {"region": "eu-central", "zone": None, "datacenter": None}
    monkeypatch.setattr("sys.stdin", Terminal("\n" * 12))
    assert main(["--config", str(home.config), "configure", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["changed"] is False


def test_configuration_tool_that_is_left_writes_nothing(home, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", Terminal("web7\n"))
    assert main(["--config", str(home.config), "configure"]) == 1
    assert not home.config.exists()
