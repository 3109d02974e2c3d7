"""What systemd is told of mounts: the units' text, and the commands in their order."""

import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from securecloud_agent.client.network import has_route
from securecloud_agent.main.notify import notify_ready, notify_status, notify_terminals
from securecloud_agent.run import Finished
from securecloud_agent.volumes.mounts import Systemd
from securecloud_agent.volumes.units import escape_path, mount_text
from securecloud_protocol.messages import IscsiTarget, Volume

VOLUME = Volume("/dev/vdb", None, "ext4", "/srv/data", ("noatime",), True, "never", None)
MAPPED = Path("/dev/mapper/sc-data")


@pytest.mark.parametrize(
    ("path", "name"),
    [  # what `systemd-escape --path` says
        ("/srv/data", "srv-data"),
        ("/", "-"),
        ("/srv//my-data/", "srv-my\\x2ddata"),
        ("/.hidden/a b", "\\x2ehidden-a\\x20b"),
        ("/srv/.x", "srv-.x"),
        ("/srv/ü@x", "srv-\\xc3\\xbc\\x40x"),
        ("/dev/mapper/sc-a_b:c.d", "dev-mapper-sc\\x2da_b:c.d"),
    ],
)
def test_unit_names_are_those_that_systemd_gives(path, name):
    assert escape_path(path) == name


def test_text_of_a_mount_unit():
    lines = mount_text("data", str(MAPPED), VOLUME).splitlines()
    assert "Requires=securecloud-volume@data.service" in lines
    assert "What=/dev/mapper/sc-data" in lines
    assert "Options=noatime,ro" in lines
    assert not [line for line in lines if line.startswith(("WantedBy", "Before=local-fs"))]


def test_percent_signs_mean_themselves():
    strange = Volume("/dev/vdb", None, "ext4", "/srv/100%h", (), False, "never", None)
    assert "Where=/srv/100%%h\n" in mount_text("data", str(MAPPED), strange)
    assert "Options=defaults\n" in mount_text("data", str(MAPPED), strange)


class Manager:
    """systemctl, told what is there."""

    def __init__(self) -> None:
        self.calls: list[list[str]] = []
        self.users = "writer.service multi-user.target old.service manual.service"
        self.units = {
            "manual.service": ("inactive", "disabled"),
            "old.service": ("active", "enabled"),
            "writer.service": ("failed", "enabled"),
        }
        self.status = 0

    def __call__(self, argv, *, timeout, secret=None, pass_fds=()):
        self.calls.append(list(argv))
        if argv[:3] == ["systemctl", "show", "--property=RequiredBy"]:
            return Finished(0, f"RequiredBy={self.users}\n".encode(), "")
        if argv[:2] == ["systemctl", "show"]:
            asked = argv[argv.index("--") + 1 :]
            blocks = [
                f"Id={name}\nActiveState={self.units[name][0]}\nUnitFileState={self.units[name][1]}"
                for name in asked
            ]
            return Finished(0, "\n\n".join(blocks).encode(), "")
        return Finished(self.status, b"", "no such unit" if self.status else "")


@pytest.fixture
def manager() -> Manager:
    return Manager()


@pytest.fixture
def systemd(manager, tmp_path) -> Systemd:
    return Systemd(manager, tmp_path)


@pytest.fixture
def strict_umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("strict_umask")
def test_a_new_mount_gets_its_unit_once(systemd, manager, tmp_path):
    systemd.mounted("data", MAPPED, VOLUME)
    unit = tmp_path / "srv-data.mount"
    assert unit.read_text() == mount_text("data", str(MAPPED), VOLUME)
    assert unit.stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "multi-user.target.wants/srv-data.mount").resolve() == unit
    link = tmp_path / "dev-mapper-sc\\x2ddata.device.requires/securecloud-volume@data.service"
    assert str(link.readlink()) == "../securecloud-volume@.service"
    timeout = tmp_path / "dev-mapper-sc\\x2ddata.device.d/securecloud.conf"
    assert "JobRunningTimeoutSec=infinity" in timeout.read_text().splitlines()
    assert timeout.parent.stat().st_mode & 0o777 == 0o755
    assert manager.calls == [["systemctl", "daemon-reload"]]
    systemd.mounted("data", MAPPED, VOLUME)
    assert manager.calls == [["systemctl", "daemon-reload"]]


def test_a_volume_on_iscsi_is_closed_before_its_session_ends(systemd, manager, tmp_path):
    remote = replace(VOLUME, iscsi=IscsiTarget("10.0.0.5:3260", "iqn.2026-01.org.example:db", 1))
    after = "network.target iscsid.service open-iscsi.service"
    systemd.mounted("data", MAPPED, remote)
    unit = tmp_path / "srv-data.mount"
    assert f"After=securecloud-volume@data.service {after}" in unit.read_text().splitlines()
    drop_in = tmp_path / "securecloud-volume@data.service.d/iscsi.conf"
    assert f"After={after}" in drop_in.read_text().splitlines()
    start = ["systemctl", "start", "--no-block", "--", "open-iscsi.service"]
    assert manager.calls == [["systemctl", "daemon-reload"], start]
    systemd.mounted("data", MAPPED, VOLUME)
    assert not drop_in.exists()
    assert "iscsi" not in unit.read_text()
    assert manager.calls[2:] == [["systemctl", "daemon-reload"]]


def test_the_unit_of_an_earlier_mount_point_goes(systemd, tmp_path):
    systemd.mounted("data", MAPPED, VOLUME)
    systemd.mounted("other", MAPPED, replace(VOLUME, mount_point="/srv/other"))
    (tmp_path / "own.mount").write_text("[Mount]\n")
    systemd.mounted("data", MAPPED, replace(VOLUME, mount_point="/srv/new"))
    assert sorted(path.name for path in tmp_path.glob("*.mount")) == [
        "own.mount",
        "srv-new.mount",
        "srv-other.mount",
    ]
    wanted = sorted(path.name for path in (tmp_path / "multi-user.target.wants").iterdir())
    assert wanted == ["srv-new.mount", "srv-other.mount"]


def test_nothing_is_left_of_a_volume_that_is_forgotten(systemd, manager, tmp_path):
    remote = replace(VOLUME, iscsi=IscsiTarget("10.0.0.5:3260", "iqn.2026-01.org.example:db", 1))
    other = Path("/dev/mapper/sc-other")
    systemd.mounted("other", other, replace(VOLUME, mount_point="/srv/other"))
    before = sorted(tmp_path.rglob("*"))
    systemd.mounted("data", MAPPED, remote)
    manager.calls.clear()
    systemd.forgotten("data", MAPPED)
    assert sorted(tmp_path.rglob("*")) == before
    assert manager.calls == [["systemctl", "daemon-reload"]]


def test_what_was_never_mounted_costs_systemd_nothing(systemd, manager):
    systemd.forgotten("data", MAPPED)
    assert manager.calls == []


def test_what_an_administrator_put_beside_stays(systemd, tmp_path):
    systemd.mounted("data", MAPPED, VOLUME)
    own = tmp_path / "dev-mapper-sc\\x2ddata.device.d/own.conf"
    own.write_text("[Unit]\n")
    systemd.forgotten("data", MAPPED)
    assert list(own.parent.iterdir()) == [own]


def test_an_administrators_own_unit_is_left_alone(systemd, manager, tmp_path):
    (tmp_path / "srv-data.mount").write_text("[Mount]\n")
    systemd.mounted("data", MAPPED, VOLUME)
    assert (tmp_path / "srv-data.mount").read_text() == "[Mount]\n"
    assert manager.calls == []


def test_a_folder_that_cannot_be_written_costs_no_mount(manager, tmp_path, capsys):
    Systemd(manager, tmp_path / "missing").mounted("data", MAPPED, VOLUME)
    assert manager.calls == []
    assert "systemd was not told of the mount at /srv/data" in capsys.readouterr().err


def test_enabled_units_that_rest_are_started_when_the_volume_is_there(systemd, manager):
    systemd.mounted("data", MAPPED, VOLUME)
    systemd.settle()
    assert manager.calls[-1] == ["systemctl", "start", "--no-block", "--", "writer.service"]
    before = len(manager.calls)
    systemd.settle()
    assert len(manager.calls) == before


def test_nobody_to_start(systemd, manager):
    manager.users = ""
    systemd.mounted("data", MAPPED, VOLUME)
    systemd.settle()
    assert [call[1] for call in manager.calls] == ["daemon-reload", "show"]


def test_release_stops_the_mount_and_so_its_users(systemd, manager, capsys):
    systemd.release("data", "/srv/data")
    stop = ["systemctl", "stop", "--", "srv-data.mount", "securecloud-volume@data.service"]
    assert manager.calls == [stop]
    manager.status = 5
    systemd.release("data", "/srv/data")
    assert "could not stop srv-data.mount: no such unit" in capsys.readouterr().err


def test_a_suspended_volume_is_given_up_before_its_mount_goes(systemd, manager, capsys):
    assert "Before=umount.target securecloud-suspended@data.service" in mount_text(
        "data", str(MAPPED), VOLUME
    )
    systemd.suspended("data")
    systemd.resumed("data")
    # Without waiting: the unit asks the agent, which is busy with just this.
    unit = "securecloud-suspended@data.service"
    assert manager.calls == [
        ["systemctl", "start", "--no-block", "--", unit],
        ["systemctl", "stop", "--no-block", "--", unit],
    ]
    manager.status = 5
    systemd.suspended("data")
    assert f"systemd could not start {unit}: no such unit" in capsys.readouterr().err


def test_terminals_are_told_without_a_shell(monkeypatch):
    calls = []
    monkeypatch.setattr(
        "securecloud_agent.main.notify.run", lambda argv, timeout: calls.append(argv)
    )
    notify_terminals("-n $(id)\x1b[2J\n")
    assert calls == [["wall", "--timeout", "3", "--", "-n $(id)?[2J?"]]


def test_systemd_hears_that_the_service_is_ready(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify_ready()
        notify_status("two\nlines")
        assert [listener.recv(100) for _ in range(2)] == [b"READY=1", b"STATUS=two?lines"]


def test_nobody_listens(monkeypatch, tmp_path):
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify_ready()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify_ready()


def test_route_to_a_server():
    assert has_route(["https://no-such-host.invalid", "https://127.0.0.1:1"])
    assert not has_route(["https://no-such-host.invalid"])
