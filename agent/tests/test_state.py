import os
import stat

import pytest
from securecloud_agent.state.files import (
    StateError,
    only_instance,
    private_directory,
    read_json,
    write_file,
    write_json,
    write_new_file,
)
from securecloud_agent.state.identity import (
    Enrolled,
    identity_key,
    read_enrolled,
    require_enrolled,
    save_enrolled,
)
from securecloud_agent.state.memory import BootMarks, Memory, SeenHead

from .simulator import Clock

ENROLLED = Enrolled("id", "web1", "server", b"kem", b"sign", "print")


def test_private_directory_is_made_or_tightened(tmp_path):
    private_directory(tmp_path / "a" / "b")
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    (tmp_path / "open").mkdir(mode=0o755)
    private_directory(tmp_path / "open")
    assert stat.S_IMODE((tmp_path / "open").stat().st_mode) == 0o700


def test_symbolic_link_is_no_private_directory(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(StateError, match="must be a directory"):
        private_directory(tmp_path / "link")


def test_failed_write_leaves_the_old_content_and_no_draft(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_file(path, b"old")

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left"):
        write_file(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_new_file_never_replaces(tmp_path):
    write_new_file(tmp_path / "file", b"first")
    with pytest.raises(FileExistsError):
        write_new_file(tmp_path / "file", b"second")
    assert (tmp_path / "file").read_bytes() == b"first"
    assert len(list(tmp_path.iterdir())) == 1


def test_damaged_json_is_named(tmp_path):
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(StateError, match=r"x\.json is damaged"):
        read_json(tmp_path / "x.json")


def test_second_instance_is_told_who_is_first(tmp_path):
    clock = Clock()
    lock = tmp_path / "lock"
    with (
        only_instance(lock, "run"),
        pytest.raises(StateError, match=rf"pid {os.getpid()}, run.* holds") as caught,
        only_instance(lock, "unlock", 10, clock.now, clock.pause),
    ):
        pass
    assert caught.value.code == "busy"
    assert sum(clock.pauses) == pytest.approx(10, abs=0.2)
    with only_instance(lock, "unlock", 0):
        pass


def test_identity_key_is_made_once_and_private(tmp_path):
    first = identity_key(tmp_path)
    assert identity_key(tmp_path).private_bytes_raw() == first.private_bytes_raw()
    assert stat.S_IMODE((tmp_path / "identity.key").stat().st_mode) == 0o600
    (tmp_path / "identity.key").write_bytes(b"short")
    with pytest.raises(StateError, match="damaged"):
        identity_key(tmp_path)


def test_enrolment_is_never_overwritten(tmp_path):
    with pytest.raises(StateError, match="not enrolled"):
        require_enrolled(tmp_path)
    save_enrolled(tmp_path, ENROLLED)
    assert read_enrolled(tmp_path) == ENROLLED
    with pytest.raises(StateError, match="never overwritten"):
        save_enrolled(tmp_path, ENROLLED)


@pytest.mark.parametrize("damage", ["[]", "{}", '{"agent_id": 3}', "7"])
def test_damaged_enrolment_is_an_error_not_a_new_start(tmp_path, damage):
    (tmp_path / "server.json").write_text(damage)
    with pytest.raises(StateError, match="damaged"):
        read_enrolled(tmp_path)


def test_lineage_rolls_and_keeps_the_previous_until_confirmed(tmp_path):
    memory = Memory(tmp_path)
    assert memory.lineage("data").presented is None
    memory.receive_lineage("data", b"a" * 32)
    assert memory.lineage("data").presented == b"a" * 32
    memory.confirm_lineage("data")
    memory.receive_lineage("data", b"b" * 32)
    known = memory.lineage("data")
    assert (known.current, known.next) == (b"a" * 32, b"b" * 32)
    memory.receive_lineage("data", b"c" * 32)
    assert memory.lineage("data").current == b"b" * 32
    memory.confirm_lineage("data")
    assert memory.lineage("data").next is None


@pytest.mark.parametrize("damage", ["[]", '{"current": "AA"}', '{"next": 5}', '{"next": "$"}'])
def test_damaged_lineage_is_named(tmp_path, damage):
    memory = Memory(tmp_path)
    memory.lineage("data")
    (tmp_path / "lineage" / "data.json").write_text(damage)
    with pytest.raises(StateError, match="damaged"):
        memory.lineage("data")


def test_audit_head_is_remembered(tmp_path):
    memory = Memory(tmp_path)
    assert memory.seen_head().size == 0
    memory.remember_head(SeenHead(3, b"r" * 32))
    assert memory.seen_head() == SeenHead(3, b"r" * 32)


def test_marks_end_with_the_boot(tmp_path):
    marks = BootMarks(tmp_path, "one")
    marks.put("held", "data")
    assert marks.has("held", "data")
    assert not BootMarks(tmp_path, "two").has("held", "data")
    assert marks.devices("held") == ("data",)
    marks.clear("held", ["data", "other"])
    assert not marks.has("held", "data")


def test_json_files_are_private(tmp_path):
    write_json(tmp_path / "x.json", {})
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o600
