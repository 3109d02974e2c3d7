"""The main job, with the real cryptsetup on files and the simulator over TLS."""

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from securecloud_agent.main import main
from securecloud_agent.main.passes import make_pass
from securecloud_protocol import messages as wire
from securecloud_protocol.encoding import b64u_encode
from securecloud_protocol.errors import ErrorCode

from .certificates import Authority
from .simulator import Device, Management


def unlock(home, capsys, *arguments: str):
    status = main(["--config", str(home.config), "unlock", "--json", *arguments])
    captured = capsys.readouterr()
    return status, json.loads(captured.out), captured.err


pytestmark = pytest.mark.usefixtures("no_mapper")


def test_blank_volume_is_formatted_and_its_key_proved(home, enrolled, device, management, capsys):
    status, result, _ = unlock(home, capsys)
    assert status == 0
    assert result["changed"]
    (entry,) = result["devices"]
    assert (entry["outcome"], entry["code"], entry["volume"]) == ("granted", "approved", "verified")
    assert "no device-mapper" in entry["how"]
    assert entry.keys() == {
        "device", "outcome", "code", "detail", "volume", "how", "retry_after",
    }  # fmt: skip
    (ack,) = management.acks
    (told,) = ack.results
    assert (told.result, told.initialised, told.key_version) == ("verified", True, 1)
    assert device.volume.luks_uuid == told.luks_uuid
    dump = subprocess.run(
        ["cryptsetup", "luksDump", device.volume.source], capture_output=True, text=True, check=True
    ).stdout
    assert "securecloud:data" in dump
    assert "Iterations: 1000" in dump
    assert "4096 [bytes]" in dump


def test_second_unlock_only_checks_and_changes_nothing(home, enrolled, device, management, capsys):
    unlock(home, capsys)
    status, result, _ = unlock(home, capsys)
    assert status == 0
    assert not result["changed"]
    assert result["devices"][0]["code"] == "checked"
    assert [claim.want for claim in management.evidence[-1].devices] == ["check"]
    assert len(management.acks) == 1


def test_check_mode_asks_for_no_key_and_changes_nothing(
    home, enrolled, device, management, listener, capsys
):
    status, result, _ = unlock(home, capsys, "--check")
    assert status == 0
    assert result["changed"]
    assert result["devices"][0]["code"] == "check_mode"
    assert listener.requests == [("POST", "/agent/v1/hello")]
    unlock(home, capsys)
    _, result, _ = unlock(home, capsys, "--check")
    assert not result["changed"]


def check(home, capsys, *arguments: str):
    capsys.readouterr()
    status = main(["--config", str(home.config), "check", "--json", *arguments])
    return status, json.loads(capsys.readouterr().out)


def test_a_check_opens_what_is_granted_and_locks_what_is_denied(home, enrolled, device, capsys):
    assert check(home, capsys, "--check")[1]["changed"]
    status, result = check(home, capsys)
    assert (status, result["changed"]) == (0, True)
    assert result["devices"][0]["volume"] == "verified"
    assert not check(home, capsys, "--check")[1]["changed"]
    assert check(home, capsys)[1]["devices"][0]["code"] == "checked"
    device.outcome, device.code = "denied", "policy"
    status, result = check(home, capsys)
    assert (status, result["devices"][0]["volume"]) == (4, "closed")


def test_a_check_leaves_locked_what_the_operator_locked(home, enrolled, device, capsys):
    unlock(home, capsys)
    main(["--config", str(home.config), "lock"])
    _, foreseen = check(home, capsys, "--check")
    assert not foreseen["changed"]
    assert foreseen["devices"][0]["detail"] == "is kept locked; would ask for a check only"
    status, result = check(home, capsys)
    assert (status, result["changed"]) == (0, False)
    assert result["devices"][0]["volume"] == "closed"
    assert unlock(home, capsys, "--check")[1]["changed"]
    assert unlock(home, capsys)[1]["devices"][0]["volume"] == "verified"


def test_denied_device_that_is_open_gets_locked(home, enrolled, device, management, capsys):
    unlock(home, capsys)
    device.outcome, device.code = "denied", "policy"
    status, result, _ = unlock(home, capsys)
    assert status == 4
    assert result["changed"]
    assert result["devices"][0]["volume"] == "closed"
    assert management.acks[-1].results[0].result == "closed"
    status, result, _ = unlock(home, capsys)
    assert (status, result["changed"]) == (4, False)


def test_unavailable_keystore_locks_nothing(home, enrolled, device, capsys):
    unlock(home, capsys)
    device.outcome, device.code = "denied", "unavailable"
    _, result, _ = unlock(home, capsys)
    assert result["devices"][0]["volume"] == "verified"


def test_pending_is_asked_again_until_the_wait_is_over(home, enrolled, device, capsys, clock):
    device.outcome, device.code, device.retry_after = "pending", "approval_required", 7
    status, result, _ = unlock(home, capsys)
    assert status == 3
    assert result["devices"][0]["retry_after"] == 7
    assert clock.pauses == []
    status, result, _ = unlock(home, capsys, "--wait", "10")
    assert status == 3
    assert clock.pauses == [7, 3]


def test_waiting_ends_when_the_request_is_approved(enrolled, device, home, capsys, listener):
    device.outcome, device.code, device.retry_after = "pending", "approval_required", 7

    def approve() -> None:
        device.outcome, device.code = "granted", "approved"

    listener.faults = [None, None, approve]
    status, result, _ = unlock(home, capsys, "--wait", "60")
    assert status == 0
    assert result["devices"][0]["outcome"] == "granted"


def test_wrong_key_is_refused_and_told(home, enrolled, device, management, capsys):
    unlock(home, capsys)
    main(["--config", str(home.config), "lock"])
    device.key = bytes(64)
    status, result, _ = unlock(home, capsys)
    assert status == 1
    entry = result["devices"][0]
    assert (entry["outcome"], entry["code"], entry["volume"]) == ("failed", "volume", "closed")
    assert "another key" in entry["detail"]
    assert management.acks[-1].results[0].result == "failed"


def test_data_is_never_formatted_over(home, enrolled, device, capsys):
    subprocess.run(["mkfs.ext4", "-q", device.volume.source], check=True)
    before = Path(device.volume.source).read_bytes()
    status, result, _ = unlock(home, capsys)
    assert status == 1
    assert "holds ext4" in result["devices"][0]["detail"]
    assert Path(device.volume.source).read_bytes() == before


def test_initialised_volume_that_is_blank_now_is_not_formatted_again(
    home, enrolled, device, capsys
):
    unlock(home, capsys)
    main(["--config", str(home.config), "lock"])
    capsys.readouterr()
    source = Path(device.volume.source)
    source.write_bytes(bytes(source.stat().st_size))
    status, result, _ = unlock(home, capsys)
    assert status == 1
    assert "initialised before" in result["devices"][0]["detail"]
    assert result["devices"][0]["volume"] == "blank"


def test_lost_ack_is_repeated_until_it_is_taken(
    home, enrolled, device, management, listener, capsys
):
    listener.faults = [None, None, "drop", "drop after", None]
    status, _, err = unlock(home, capsys)
    assert status == 0
    assert "could not be told" not in err
    assert len(management.acks) == 1
    assert enrolled.memory.lineage("data").next is None


def test_unreachable_server_after_release_locks_nobody_out(
    home, enrolled, device, management, listener, capsys, clock
):
    listener.faults = [None, None, *["drop"] * 12]
    status, _, err = unlock(home, capsys)
    assert status == 0
    assert "could not be told" in err
    assert not management.acks
    listener.faults.clear()
    status, result, _ = unlock(home, capsys)
    assert status == 0
    assert result["devices"][0]["outcome"] == "granted"


def test_lost_receipt_locks_nobody_out(home, enrolled, device, management, listener, capsys):
    listener.faults = [None, None, "drop after", *["drop"] * 12]
    unlock(home, capsys)
    assert len(management.acks) == 1
    listener.faults.clear()
    status, _, _ = unlock(home, capsys)
    assert status == 0


def test_lost_release_locks_nobody_out(home, enrolled, device, management, listener, capsys):
    unlock(home, capsys)
    listener.faults = [None, "drop after", *["drop"] * 12]
    status, result, _ = unlock(home, capsys)
    assert (status, result["devices"][0]["code"]) == (1, "unreachable")
    listener.faults.clear()
    status, _, _ = unlock(home, capsys)
    assert status == 0


def test_restored_copy_of_the_state_is_noticed_as_a_clone(home, enrolled, device, capsys):
    unlock(home, capsys)
    file = home.state / "lineage" / "data.json"
    old = file.read_text()
    for _ in range(2):
        main(["--config", str(home.config), "lock", "--json"])
        capsys.readouterr()
        unlock(home, capsys)
    file.write_text(old)
    status, result, _ = unlock(home, capsys)
    assert (status, result["devices"][0]["code"]) == (4, "quarantined")


@pytest.mark.parametrize("code", [ErrorCode.STALE, ErrorCode.EXPIRED, ErrorCode.REPLAYED])
def test_exchange_begins_anew_once(home, enrolled, device, listener, capsys, code):
    listener.faults = [None, code]
    assert unlock(home, capsys)[0] == 0
    listener.faults = [None, code, None, code]
    status, result, _ = unlock(home, capsys)
    assert status == 1
    assert result["error"]
    assert result["devices"][0]["code"] == code.value


def test_audit_log_that_shrank_stops_the_pass(home, enrolled, device, management, capsys):
    unlock(home, capsys)
    unlock(home, capsys)
    management.records = management.records[:1]
    main(["--config", str(home.config), "lock"])
    management.records.clear()
    capsys.readouterr()
    status, result, _ = unlock(home, capsys)
    assert (status, result["devices"][0]["code"]) == (1, "audit")
    assert result["devices"][0]["volume"] == "closed"


def test_rewritten_audit_log_stops_the_pass(home, enrolled, device, management, capsys):
    unlock(home, capsys)
    unlock(home, capsys)
    management.records[0] = b"another"
    _, result, _ = unlock(home, capsys)
    assert "rewritten" in result["error"]


def test_clock_off_by_a_day_is_a_warning(home, enrolled, device, management, capsys):
    management.skew = 86400
    status, _, err = unlock(home, capsys)
    assert status == 0
    assert "clock is 1 day behind the server's" in err


def test_unknown_device_is_named_by_the_server(home, enrolled, device, capsys):
    status, result, err = unlock(home, capsys, "other")
    assert status == 1
    assert result["devices"][0]["code"] == "unknown_device"
    assert "not registered for this agent" in err
    assert home.status()["devices"] == {}


def test_device_that_was_taken_away_leaves_the_status(home, enrolled, management, device, capsys):
    device.volume = replace(device.volume, source="/nowhere")
    unlock(home, capsys)
    assert home.status()["devices"]["data"]["outcome"] == "failed"
    del management.devices["data"]
    unlock(home, capsys)
    assert home.status()["devices"] == {}


@pytest.mark.parametrize("room", ["lineage", "devices", "encryptions"])
def test_damaged_memory_of_one_device_keeps_no_other_from_its_key(
    home, enrolled, management, device, tmp_path, capsys, room
):
    other = tmp_path / "other.img"
    shutil.copy(device.volume.source, other)
    management.devices["other"] = Device(replace(device.volume, source=str(other)))
    damaged = home.state / room / "other.json"
    damaged.parent.mkdir(exist_ok=True)
    damaged.write_text('{"current": 1}')
    status, result, _ = unlock(home, capsys)
    assert status == 1
    outcomes = {each["device"]: each for each in result["devices"]}
    assert outcomes["data"]["volume"] == "verified"
    assert outcomes["other"]["outcome"] == "failed"
    assert f"{damaged} is damaged" in outcomes["other"]["detail"]
    assert [claim.device for claim in management.evidence[-1].devices] == ["data"]
    del management.devices["data"]
    assert unlock(home, capsys)[0] == 1
    assert len(management.evidence) == 1


def test_missing_cryptsetup_names_its_package(
    home, enrolled, device, capsys, monkeypatch, tmp_path
):
    (tmp_path / "bin").mkdir()
    for tool in ("blkid", "wipefs"):
        (tmp_path / "bin" / tool).symlink_to(f"/usr/sbin/{tool}")
    monkeypatch.setattr("securecloud_agent.run.SEARCH_PATH", str(tmp_path / "bin"))
    status, result, _ = unlock(home, capsys)
    assert status == 1
    assert "cryptsetup-bin" in result["devices"][0]["detail"]


def test_no_devices_is_fine(home, enrolled, capsys):
    status, result, err = unlock(home, capsys)
    assert (status, result) == (0, {"changed": False, "devices": []})
    assert "no devices" in err


def test_other_server_is_asked_when_the_first_is_away(
    home, enrolled, device, listen, listener, capsys
):
    spare = listen()
    home.configure(listener.url, spare.url)
    listener.faults = ["drop"]
    assert unlock(home, capsys)[0] == 0
    assert spare.requests[-2:] == [("POST", "/agent/v1/ack"), ("POST", "/agent/v1/copy")]
    assert home.status()["server"] == spare.url


def test_server_that_answered_last_is_asked_first(home, enrolled, device, listen, listener, capsys):
    spare = listen()
    home.configure(listener.url, spare.url)
    listener.faults = ["drop"]
    unlock(home, capsys)
    listener.requests.clear()
    assert unlock(home, capsys)[0] == 0
    assert listener.requests == []


def test_ack_goes_to_another_server_when_the_first_died(
    home, enrolled, device, management, listen, listener, capsys
):
    spare = listen()
    home.configure(listener.url, spare.url)
    listener.faults = [None, None, *["drop"] * 9]
    assert unlock(home, capsys)[0] == 0
    assert len(management.acks) == 1
    assert spare.requests == [("POST", "/agent/v1/ack"), ("POST", "/agent/v1/copy")]


def test_stranger_with_a_good_certificate_is_not_trusted(
    home, enrolled, device, certificate, clock, listener, capsys
):
    stranger = Management(clock, [certificate])
    stranger.agents = listener.management.agents
    listener.management = stranger
    status, result, _ = unlock(home, capsys)
    assert (status, result["devices"], "not_authenticated" in result["error"]) == (1, [], True)


def test_wrong_ca_file_is_told_for_each_device(home, enrolled, device, tmp_path, capsys, listener):
    unlock(home, capsys)
    home.ca_file = Authority(tmp_path, "another CA").ca_file
    home.configure(listener.url)
    status, result, err = unlock(home, capsys)
    assert (status, result["devices"][0]["code"]) == (1, "not_trusted")
    assert "agent.ca_file" in err


def test_keys_are_forgotten_after_the_pass(home, enrolled, device, forgotten, capsys):
    unlock(home, capsys)
    assert forgotten == [device.key]
    unlock(home, capsys)
    assert forgotten == [device.key]


def test_keys_are_forgotten_before_the_server_is_told(
    home, enrolled, device, forgotten, management, monkeypatch, capsys
):
    at_the_ack = []
    take = management._ack

    def look_and_take(body):
        at_the_ack.extend(forgotten)
        return take(body)

    monkeypatch.setattr(management, "_ack", look_and_take)
    unlock(home, capsys)
    assert at_the_ack == [device.key]


def test_held_device_stays_closed_until_unlock(home, enrolled, device, management, capsys):
    unlock(home, capsys)
    assert main(["--config", str(home.config), "lock", "data"]) == 0
    capsys.readouterr()
    passed = make_pass(enrolled, ())
    assert (passed.changed, passed.outcomes[0].volume) == (False, "closed")
    assert management.evidence[-1].devices[0].want == "check"
    _, result, _ = unlock(home, capsys)
    assert result["devices"][0]["volume"] == "verified"


def test_facts_are_collected_as_asked(home, enrolled, device, management, capsys):
    management.facts = (
        wire.FactRequest("host_name"),
        wire.FactRequest("file_digests", ("/etc/hostname", "/nowhere")),
        wire.FactRequest("astrology"),
    )
    assert unlock(home, capsys)[0] == 0
    facts = management.evidence[-1].facts
    assert facts["host_name"].provenance == "claimed"
    assert facts["file_digests"].value.keys() <= {"/etc/hostname"}
    assert facts["astrology"].error == "this agent knows no such fact"


def test_status_remembers_outcomes_without_secrets(home, enrolled, device, capsys):
    unlock(home, capsys)
    main(["--config", str(home.config), "status", "--json"])
    status = json.loads(capsys.readouterr().out)
    assert status["enrolled"]
    assert status["devices"][0]["volume"] == "verified"
    secret = b64u_encode(device.key)
    for path in home.state.rglob("*.json"):
        assert secret not in path.read_text()
        assert path.stat().st_mode & 0o077 == 0
