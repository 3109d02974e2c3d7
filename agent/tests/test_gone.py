"""A device that the server no longer has: locked, forgotten, and of no harm to the others."""

import json

import pytest
from securecloud_agent.main import main
from securecloud_agent.main.passes import make_pass
from securecloud_agent.volumes.trouble import VolumeError
from securecloud_agent.volumes.volumes import Volumes

from .simulator import Device

pytestmark = pytest.mark.usefixtures("no_mapper")


@pytest.fixture
def opened(enrolled, device, management, tmp_path):
    """An agent with two devices whose keys it has."""
    other = tmp_path / "other.img"
    other.write_bytes(bytes(32 << 20))
    management.devices["other"] = Device(_moved(device.volume, str(other)))
    make_pass(enrolled, ())
    assert [enrolled.marks.has("verified", each) for each in ("data", "other")] == [True, True]
    return enrolled


def _moved(volume, source):
    return type(volume)(source, None, "ext4", "/srv/other", ("defaults",), False, "if_blank", None)


def test_it_is_locked_and_forgotten(opened, management, home):
    del management.devices["data"]
    passed = make_pass(opened, ())
    gone = passed.outcomes[-1]
    assert passed.changed
    assert (gone.device, gone.outcome, gone.code, gone.volume) == (
        "data",
        "denied",
        "unknown_device",
        "closed",
    )
    assert not opened.marks.has("verified", "data")
    assert opened.marks.has("verified", "other")
    assert opened.memory.devices() == ("other",)
    assert list(home.status()["devices"]) == ["other"]
    # The server knows no such device to acknowledge.
    assert {each.device for ack in management.acks[1:] for each in ack.results} <= {"other"}
    assert [each.device for each in make_pass(opened, ()).outcomes] == ["other"]


def test_the_last_one_goes_too(opened, management, home):
    management.devices.clear()
    assert {each.volume for each in make_pass(opened, ()).outcomes} == {"closed"}
    assert opened.memory.devices() == ()
    assert home.status()["devices"] == {}


def test_what_was_closed_is_forgotten_without_a_word_to_hooks(opened, management, home, capsys):
    main(["--config", str(home.config), "lock", "data"])
    del management.devices["data"]
    capsys.readouterr()
    assert [each.device for each in make_pass(opened, ()).outcomes] == ["other"]
    assert "data: the device is not registered for this agent any more" in capsys.readouterr().err
    assert opened.memory.devices() == ("other",)


def test_it_comes_back_with_a_restored_server(opened, management):
    kept = management.devices.pop("data")
    make_pass(opened, ())
    management.devices["data"] = kept
    assert make_pass(opened, ()).outcomes[0].volume == "verified"


def test_asking_for_another_device_says_nothing_of_it(opened, management):
    del management.devices["data"]
    make_pass(opened, ("other",))
    assert opened.marks.has("verified", "data")


def test_a_release_that_does_not_come_says_nothing_of_it(opened, management, listener, home):
    del management.devices["data"]
    listener.faults.extend([None, *["drop"] * 100])
    assert main(["--config", str(home.config), "unlock"]) != 0
    assert opened.marks.has("verified", "data")


def test_damage_to_what_is_remembered_of_it_is_no_way_out(opened, management, home):
    del management.devices["data"]
    (home.state / "devices" / "data.json").write_text("{")
    (home.state / "encryptions" / "data.json").write_text("[]")
    make_pass(opened, ())
    assert not opened.marks.has("verified", "data")
    assert opened.marks.has("verified", "other")


def test_what_cannot_be_closed_is_tried_again(opened, management, monkeypatch):
    def busy(_self, device):
        raise VolumeError("/srv/data is busy")

    del management.devices["data"]
    with monkeypatch.context() as patch:
        patch.setattr(Volumes, "lock", busy)
        passed = make_pass(opened, ())
    failed = passed.outcomes[-1]
    assert (failed.outcome, failed.code, failed.volume, passed.changed) == (
        "failed",
        "volume",
        "verified",
        False,
    )
    assert failed.detail == "/srv/data is busy"
    assert opened.memory.devices() == ("data", "other")
    assert make_pass(opened, ()).outcomes[-1].volume == "closed"


def test_unlock_says_so_once(opened, management, home, capsys):
    del management.devices["data"]
    capsys.readouterr()
    assert main(["--config", str(home.config), "unlock", "--json"]) == 4
    printed = json.loads(capsys.readouterr().out)
    assert printed["changed"] is True
    assert [each["code"] for each in printed["devices"]] == ["checked", "unknown_device"]
    assert main(["--config", str(home.config), "unlock"]) == 0
