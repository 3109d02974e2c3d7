"""Hooks: what is run, with what, and what a hostile or broken one cannot do."""

import os
import select
import stat
from pathlib import Path

import pytest
from securecloud_agent import trust as rules
from securecloud_agent.run import ToolTimeoutError, run_script
from securecloud_agent.volumes.hooks import Hooks

SOON = 0.4


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "hooks.d").mkdir(mode=0o755)
    return tmp_path / "hooks.d"


@pytest.fixture
def hooks(folder) -> Hooks:
    return Hooks(folder, seconds=SOON)


def put(folder: Path, name: str, text: str, mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    lines = capsys.readouterr().err.splitlines()
    return [line.removeprefix("securecloud-agent: ") for line in lines]


def test_a_hook_learns_what_happens_and_nothing_else(folder, hooks, capsys, monkeypatch):
    monkeypatch.setenv("SECRET", "of the service")
    put(folder, "10-show", '#!/bin/sh\necho "$# $*"\nenv | sort\npwd\n')
    hooks.tell("locking", "data", "/srv/my data", 90)
    lines = [line.removeprefix("hook 10-show: ") for line in told(capsys)]
    assert [line for line in lines if not line.startswith(("PWD=", "_=", "OLDPWD="))] == [
        "2 locking data",
        "LC_ALL=C",
        "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
        "SECURECLOUD_DEVICE=data",
        "SECURECLOUD_EVENT=locking",
        "SECURECLOUD_MOUNT_POINT=/srv/my data",
        "SECURECLOUD_SECONDS_LEFT=90",
        "/",
    ]


def test_hooks_run_in_the_order_of_their_names_whatever_each_does(folder, hooks, capsys):
    put(folder, "20-b", "#!/bin/sh\necho second\nexit 3\n")
    put(folder, "10-a", "#!/bin/sh\necho first\nkill -9 $$\n")
    put(folder, "30-c", "#!/bin/sh\necho third >&2\n")
    hooks.tell("locking", "data")
    assert told(capsys) == [
        "hook 10-a: first",
        "warning: the hook 10-a (locking data) ended by signal 9",
        "hook 20-b: second",
        "warning: the hook 20-b (locking data) ended with exit status 3",
        "hook 30-c: third",
    ]


@pytest.mark.parametrize(
    ("name", "mode", "reason"),
    [
        ("notify.sh", 0o755, "letters, digits"),
        ("hook~", 0o755, "letters, digits"),
        ("10-group", 0o775, "may write it (mode 0775)"),
        ("10-all", 0o757, "may write it (mode 0757)"),
    ],
)
def test_what_looks_like_a_hook_and_is_none_is_told(folder, hooks, capsys, name, mode, reason):
    put(folder, name, "#!/bin/sh\necho ran\n", mode)
    hooks.tell("locking", "data")
    (line,) = told(capsys)
    assert reason in line
    assert "is not run" in line


def test_what_nobody_meant_to_run_is_passed_over(folder, hooks, capsys):
    put(folder, "README.md", "text", 0o644)
    put(folder, "10-disabled", "#!/bin/sh\necho ran\n", 0o644)
    (folder / "folder").mkdir(mode=0o700)
    hooks.tell("locking", "data")
    assert [line for line in told(capsys) if "folder" not in line] == []


def test_a_link_is_not_followed(folder, hooks, capsys, tmp_path):
    (folder / "10-link").symlink_to(put(tmp_path, "elsewhere", "#!/bin/sh\necho ran\n"))
    hooks.tell("locking", "data")
    assert "symbolic link" in told(capsys)[0]


def test_a_file_of_somebody_else_is_not_run(folder, hooks, capsys, monkeypatch):
    """Only root could really give one away, so the file's owner is made a stranger."""
    path = put(folder, "10-theirs", "#!/bin/sh\necho ran\n")
    ours = rules._is_ours
    monkeypatch.setattr(
        rules, "_is_ours", lambda found: not stat.S_ISREG(found.st_mode) and ours(found)
    )
    hooks.tell("locking", "data")
    assert f"belongs to uid {path.stat().st_uid}" in told(capsys)[0]


@pytest.mark.parametrize(("owner", "ours"), [(0, True), (os.geteuid(), True), (65533, False)])
def test_only_root_and_the_agents_own_account_are_ours(owner, ours):
    assert rules._is_ours(os.stat_result((0o100755, 1, 1, 1, owner, 0, 0, 0, 0, 0))) is ours


@pytest.mark.parametrize("which", ["itself", "above"])
def test_a_folder_that_others_can_write_is_not_used(tmp_path, capsys, which):
    above = tmp_path / "above"
    folder = above / "hooks.d"
    folder.mkdir(parents=True)
    put(folder, "10-a", "#!/bin/sh\necho ran\n")
    (folder if which == "itself" else above).chmod(0o777)
    Hooks(folder).tell("locking", "data")
    (line,) = told(capsys)
    assert line.startswith("warning: no hook is run:")


def test_no_folder_and_an_empty_one(tmp_path, folder, hooks, capsys):
    Hooks(tmp_path / "none").tell("locking", "data")
    folder.chmod(0o777)
    hooks.tell("locking", "data")
    assert told(capsys) == []


def test_a_hook_that_hangs_costs_its_time_and_no_more(folder, hooks, capsys):
    put(folder, "10-hang", "#!/bin/sh\necho begun\nexec sleep 600\n")
    put(folder, "20-next", "#!/bin/sh\necho next\n")
    hooks.tell("locking", "data")
    assert told(capsys) == [
        "hook 10-hang: begun",
        "warning: the hook 10-hang (locking data): it did not end within 0.4 s",
        "hook 20-next: next",
    ]


def test_what_a_hanging_hook_started_ends_with_it(folder):
    path = put(folder, "10-hang", "#!/bin/sh\nsleep 600 &\necho $!\nwait\n")
    children: list[int] = []
    with pytest.raises(ToolTimeoutError):
        run_script(
            path,
            [],
            environment={},
            timeout=SOON,
            line=lambda text: children.append(os.pidfd_open(int(text))),
        )
    (child,) = children
    try:
        assert select.select([child], [], [], 5)[0] == [child]
    finally:
        os.close(child)


def test_what_a_hook_leaves_in_the_background_is_not_waited_for(folder, capsys):
    put(folder, "10-daemon", "#!/bin/sh\nsetsid sleep 5 &\necho done\n")
    Hooks(folder, seconds=3).tell("locking", "data")
    assert told(capsys) == ["hook 10-daemon: done"]


def test_a_hook_that_ignores_to_be_asked_ends_too(folder, hooks, capsys):
    put(folder, "10-stubborn", "#!/bin/sh\ntrap '' TERM INT HUP\nwhile :; do sleep 1; done\n")
    hooks.tell("locking", "data")
    assert "did not end" in told(capsys)[0]


def test_output_is_bounded(folder, hooks, capsys):
    put(folder, "10-flood", "#!/bin/sh\nexec yes flood\n")
    hooks.tell("locking", "data")
    lines = told(capsys)
    assert lines[:100] == ["hook 10-flood: flood"] * 100
    assert "more than 100 lines" in lines[100]
    assert "did not end" in lines[101]
    assert len(lines) == 102


def test_a_line_without_an_end_is_bounded(folder, hooks, capsys):
    put(folder, "10-long", "#!/bin/sh\nhead -c 300000 /dev/zero | tr '\\0' x\n")
    hooks.tell("locking", "data")
    lines = told(capsys)
    assert 3 < len(lines) <= 102
    assert max(map(len, lines)) <= 700


def test_output_forges_no_line_of_the_journal(folder, hooks, capsys):
    put(folder, "10-forge", "#!/bin/sh\nprintf 'a\\rsecurecloud-agent: b\\033[2J\\377\\n'\n")
    hooks.tell("locking", "data")
    assert told(capsys) == ["hook 10-forge: a?securecloud-agent: b?[2J\ufffd"]


@pytest.mark.parametrize("text", ["no interpreter", "#!/no/such/interpreter\n", "\x7fELF"])
def test_what_cannot_be_started_is_told(folder, hooks, capsys, text):
    put(folder, "10-broken", text)
    hooks.tell("locking", "data")
    (line,) = told(capsys)
    assert "cannot be started" in line


def test_names_of_volumes_are_no_words_of_a_shell(folder, hooks, capsys):
    put(folder, "10-echo", '#!/bin/sh\necho "$SECURECLOUD_MOUNT_POINT"\n')
    hooks.tell("opened", "data", "/srv/$(touch /tmp/x);`id`")
    assert told(capsys) == ["hook 10-echo: /srv/$(touch /tmp/x);`id`"]


def test_a_script_has_no_standard_input_and_no_open_files(folder):
    path = put(folder, "10-look", "#!/bin/sh\ncat\nls /proc/self/fd | wc -l\n")
    lines: list[bytes] = []
    extra = os.open("/dev/null", os.O_RDONLY)
    try:
        assert run_script(path, [], environment={}, timeout=5, line=lines.append) == 0
    finally:
        os.close(extra)
    # 0, 1, 2 and the folder that ls reads.
    assert lines == [b"4"]


def test_the_time_limit_is_kept_while_it_writes(folder):
    path = put(folder, "10-yes", "#!/bin/sh\nexec yes\n")
    with pytest.raises(ToolTimeoutError):
        run_script(path, [], environment={}, timeout=SOON, line=lambda _: None)
