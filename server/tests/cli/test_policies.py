"""`policy evaluate`."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from securecloud_server import app
from securecloud_server.settings import load_settings

from server.tests.cli.conftest import Installation
from server.tests.exchange.conftest import APPROVE, CERTIFICATE, HOST_RULE, Clock, Server

DRAFT = {"rules": [{"not": HOST_RULE}], "on_match": {"action": "approve"}}


@pytest.fixture
def lived(installed: Installation) -> Installation:
    """One machine has got the key of its device `data` under the policy `web`."""
    application = app.build(load_settings(installed.config), [CERTIFICATE], clock=Clock())
    server = Server(application, Clock())
    server.policy("web", APPROVE)
    machine = server.machine("web1")
    server.device("data", "web1")
    server.device("logs", "web1")
    machine.unlock("data")
    application.close()
    return installed


def evaluate(installation: Installation, draft: Any, *options: str) -> Any:
    return installation.json(
        "policy", "evaluate", "web", "--draft", "-", *options, stdin=json.dumps(draft)
    )


def test_it_says_what_a_draft_would_change(lived: Installation) -> None:
    impact = evaluate(lived, DRAFT)
    assert [(each["device"], each["effect"]) for each in impact["devices"]] == [
        ("data", "lose"),
        ("logs", "no_evidence"),
    ]
    assert impact["totals"]["may_lose"] == 1
    (rule,) = impact["devices"][0]["rules"]
    assert (rule["path"], rule["value"]) == ("rules[0].not", "web1")


def test_without_a_draft_it_is_the_policy_in_effect(lived: Installation) -> None:
    impact = lived.json("policy", "evaluate", "web", "--device", "data")
    assert [each["effect"] for each in impact["devices"]] == ["unchanged"]


def test_for_people_it_is_a_line_for_each_device_and_one_for_each_rule(
    lived: Installation, tmp_path: Path
) -> None:
    file = tmp_path / "draft.json"
    file.write_text(json.dumps(DRAFT))
    done = lived.run("policy", "evaluate", "web", "--draft", str(file))
    lines = done.stdout.splitlines()
    assert done.returncode == 0
    assert lines[0].startswith("lose         data  granted -> pending  (seen ")
    assert lines[1].strip() == (
        "draft rules[0].not: not (host_name matches 'web[0-9]+'): is 'web1' (claimed)"
    )
    assert lines[2] == "no_evidence  logs"
    assert lines[3].startswith("devices 2, may lose 1, lose 1, ")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"is not JSON in line 1"),
        (b"[]", r"holds no JSON object"),
        (b"\xff", r"is not UTF-8"),
        (b" " * 300_000, r"is too large"),
        (b"[" * 200_000, r"is not JSON"),
        (b'{"rules": [{"fact": "hostname"}]}', r"draft\.rules\[0\]\.fact: unknown fact"),
        (b'{"name": "db"}', r"draft\.name: "),
    ],
)
def test_a_bad_draft_is_refused_with_its_reason(
    lived: Installation, tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "draft.json"
    file.write_bytes(content)
    done = lived.run("policy", "evaluate", "web", "--draft", str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert re.search(message, done.stderr), done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("none",), "there is no policy 'none'"),
        (("web", "--draft", "/nowhere/draft.json"), "cannot read /nowhere/draft.json"),
        (("web", "--device", "x"), "there is no device 'x'"),
        (("web", "--group", "x"), "there is no device group 'x'"),
    ],
)
def test_what_does_not_exist_is_named(
    lived: Installation, options: tuple[str, ...], message: str
) -> None:
    done = lived.run("policy", "evaluate", *options)
    assert done.returncode == 1
    assert message in done.stderr


# The documentation


TEXT = (Path(__file__).parents[3] / "docs/policies.md").read_text(encoding="utf-8")


def documented(kind: str) -> str:
    """Return the only block of this kind."""
    (block,) = re.findall(rf"^```{kind}\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    return str(block)


def test_the_documented_example_says_what_the_command_says(installed: Installation) -> None:
    clock = Clock()
    application = app.build(load_settings(installed.config), [CERTIFICATE], clock=clock)
    server = Server(application, clock)
    server.policy("web", yaml.safe_load(documented("yaml stored policy")))
    for device, facts in yaml.safe_load(documented("yaml evidence")).items():
        name = device.removesuffix("-data")
        machine = server.machine(name)
        server.device(device, name)
        if facts is not None:
            machine.facts = facts
            machine.ask()
    application.close()
    draft = json.dumps(yaml.safe_load(documented("yaml draft policy")))
    done = installed.run("policy", "evaluate", "web", "--draft", "-", stdin=draft)
    said = re.sub(r"seen \d+ s ago", "seen 0 s ago", done.stdout)
    assert said == documented("text impact")
