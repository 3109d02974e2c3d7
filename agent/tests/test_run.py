"""The subprocess wrapper: what a program gets to see, and what it does not."""

import json
import os
from pathlib import Path

import pytest
from securecloud_agent import run as wrapper
from securecloud_agent.run import ToolMissingError, ToolTimeoutError, run
from securecloud_agent.volumes.cryptsetup import Cryptsetup
from securecloud_agent.volumes.trouble import VolumeError

RECORDER = """#!/usr/bin/python3
import json, os, sys
record = {
    "argv": sys.argv,
    "environment": dict(os.environ),
    "stdin": sys.stdin.buffer.read().hex(),
    "descriptors": sorted(os.listdir("/proc/self/fd")),
}
with open(os.path.join(os.path.dirname(__file__), "record"), "a") as file:
    file.write(json.dumps(record) + "\\n")
sys.stderr.write("first\\nsecond\\x1b[31m\\n")
sys.exit(int(os.path.basename(__file__) == "failing"))
"""


@pytest.fixture
def tools(tmp_path, monkeypatch):
    monkeypatch.setattr(wrapper, "SEARCH_PATH", str(tmp_path))

    def install(name: str, text: str = RECORDER) -> None:
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    return install


def records(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "record").read_text().splitlines()]


def test_key_reaches_cryptsetup_on_its_standard_input_and_nowhere_else(
    tools, tmp_path, monkeypatch
):
    tools("cryptsetup")
    monkeypatch.setenv("LEAK", "an environment of the agent's own")
    key = bytearray(os.urandom(64))
    cryptsetup = Cryptsetup(run, tmp_path / "volume")
    cryptsetup.format(key, "securecloud:data", "11111111-2222-3333-4444-555555555555", 4096 * 9)
    cryptsetup.verify(key, b"header")
    cryptsetup.open(key, b"header", "sc-data", True)
    cryptsetup.close("sc-data")
    found = records(tmp_path)
    assert [each["stdin"] for each in found] == [key.hex(), key.hex(), key.hex(), ""]
    for each in found:
        assert each["environment"].keys() <= {"LC_ALL", "PATH", "LC_CTYPE"}
        visible = json.dumps([each["argv"], each["environment"]])
        for form in (key.hex(), key.decode("latin-1"), str(list(key))):
            assert form not in visible
    assert "--sector-size=4096" in found[0]["argv"]
    assert {"--test-passphrase", "--keyfile-size=64"} <= set(found[1]["argv"])
    assert {"--readonly", "sc-data"} <= set(found[2]["argv"])


def test_odd_size_gets_small_sectors(tools, tmp_path):
    tools("cryptsetup")
    Cryptsetup(run, tmp_path).format(bytearray(64), "label", "uuid", 4096 * 9 + 512)
    assert "--sector-size=512" in records(tmp_path)[0]["argv"]


def test_programs_last_words_are_one_safe_line(tools, tmp_path):
    tools("failing")
    done = run(["failing"], timeout=10)
    assert (done.status, done.complaint) == (1, "first / second?[31m")


def test_missing_program_is_named(tools, tmp_path):
    with pytest.raises(ToolMissingError, match="Debian package cryptsetup-bin"):
        Cryptsetup(run, tmp_path).close("sc-data")
    with pytest.raises(ToolMissingError, match="e2fsprogs"):
        run(["mkfs.ext4"], timeout=1)


def test_program_that_hangs_is_ended(tools):
    tools("hanging", "#!/bin/sh\nexec 2>/dev/null\nread never < /dev/zero\n")
    with pytest.raises(ToolTimeoutError, match=r"hanging did not end within 0\.2 s"):
        run(["hanging"], timeout=0.2)


def test_program_that_ignores_the_key_does_not_break_the_agent(tools):
    tools("deaf", "#!/bin/sh\nexec <&-\nexit 3\n")
    assert run(["deaf"], timeout=10, secret=bytearray(64)).status == 3


def test_cryptsetups_complaint_is_reported(tools, tmp_path):
    tools("cryptsetup", "#!/bin/sh\necho 'Device is busy.' >&2\nexit 5\n")
    with pytest.raises(VolumeError, match=r"could not close .*: Device is busy"):
        Cryptsetup(run, tmp_path).close("sc-data")
