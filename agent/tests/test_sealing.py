"""A key that a TPM has sealed comes out of that TPM, within the bounds, and in no other way."""

from dataclasses import replace
from pathlib import Path

import pytest
from securecloud_agent.run import ToolMissingError
from securecloud_agent.sealing import tpm as sealing
from securecloud_agent.sealing.tpm import Bounds, RefusedByTpmError, Tpm, TpmError

from .tpm import SoftTpm

KEY = bytes(range(64))
HOUR = 3_600_000


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "contexts"
    path.mkdir()
    return path


@pytest.fixture
def mine(tpm, folder) -> Tpm:
    return Tpm(tpm.run, folder)


def bounds(mine: Tpm, boots: int = 1, period: int = HOUR, pcrs=(7,)) -> Bounds:
    now = mine.read()
    return Bounds(pcrs, now.clock + period, now.resets + boots + 1)


def sealed(mine: Tpm, limits: Bounds, key: bytes = KEY) -> tuple[bytes, bytes]:
    return mine.seal(bytearray(key), limits)


def test_what_was_sealed_comes_out_again(mine):
    limits = bounds(mine, pcrs=(0, 4, 7))
    parts = sealed(mine, limits)
    assert mine.unseal(*parts, limits) == KEY
    assert mine.unseal(*parts, limits) == KEY, "and again"


@pytest.mark.parametrize(
    "key", [bytes(64), b"\n" * 64, bytes(range(192, 256))], ids=["zeros", "lines", "high"]
)
def test_any_octets_come_back(mine, key):
    limits = bounds(mine)
    assert mine.unseal(*sealed(mine, limits, key), limits) == key


def test_another_state_of_the_machine_is_refused(mine, tpm):
    limits = bounds(mine, pcrs=(4, 7))
    parts = sealed(mine, limits)
    tpm.extend(8)
    assert mine.unseal(*parts, limits) == KEY, "nobody asked for this register"
    tpm.extend(4)
    with pytest.raises(RefusedByTpmError, match="PCRs 4, 7 are not as they were"):
        mine.unseal(*parts, limits)


@pytest.mark.parametrize("how", ["boot", "cut"])
def test_boots_are_counted_by_the_tpm(mine, tpm, how):
    limits = bounds(mine, boots=2)
    parts = sealed(mine, limits)
    for _ in range(2):
        getattr(tpm, how)()
        assert mine.unseal(*parts, limits) == KEY
    getattr(tpm, how)()
    with pytest.raises(RefusedByTpmError, match="count of resets"):
        mine.unseal(*parts, limits)


def test_time_is_counted_by_the_tpm_over_boots(mine, tpm):
    limits = bounds(mine, boots=9)
    parts = sealed(mine, limits)
    tpm.forward(HOUR // 2)
    tpm.boot()
    assert mine.unseal(*parts, limits) == KEY
    tpm.forward(HOUR // 2)
    with pytest.raises(RefusedByTpmError, match="its clock"):
        mine.unseal(*parts, limits)
    tpm.boot()
    with pytest.raises(RefusedByTpmError, match="its clock"):
        mine.unseal(*parts, limits)


@pytest.mark.parametrize("what", ["clock_limit", "reset_limit", "pcrs"])
def test_bounds_that_somebody_widened_are_refused(mine, tpm, what):
    limits = bounds(mine)
    parts = sealed(mine, limits)
    wider = {"clock_limit": 2**62, "reset_limit": 2**31, "pcrs": (8,)}[what]
    with pytest.raises(RefusedByTpmError):
        mine.unseal(*parts, replace(limits, **{what: wider}))


def test_another_tpm_cannot_open_it(mine, folder, tmp_path, monkeypatch):
    limits = bounds(mine)
    parts = sealed(mine, limits)
    with SoftTpm(tmp_path / "other") as other:
        monkeypatch.setattr(sealing, "DEVICE", other.socket)
        with pytest.raises(RefusedByTpmError, match="another TPM"):
            Tpm(other.run, folder).unseal(*parts, limits)


@pytest.mark.parametrize("part", [0, 1])
def test_parts_that_were_changed_are_refused(mine, part):
    limits = bounds(mine)
    parts = [bytearray(each) for each in sealed(mine, limits)]
    parts[part][-1] ^= 1
    with pytest.raises(RefusedByTpmError):
        mine.unseal(*map(bytes, parts), limits)


@pytest.mark.parametrize("junk", [b"", b"\0", b"\xff" * 4000, b"\0\x10" + b"a" * 10])
def test_junk_is_refused(mine, junk):
    limits = bounds(mine)
    public, private = sealed(mine, limits)
    for parts in ((junk, private), (public, junk)):
        with pytest.raises(RefusedByTpmError):
            mine.unseal(*parts, limits)


def test_the_object_gives_nothing_without_its_policy(mine, tpm, tmp_path):
    """Also to somebody who leaves the agent out and asks the TPM himself."""
    public, private = sealed(mine, bounds(mine))
    (tmp_path / "u").write_bytes(public)
    (tmp_path / "r").write_bytes(private)
    context = str(tmp_path / "primary")
    tpm.tool("tpm2_createprimary", "-C", "o", "-g", "sha256", "-G", "ecc", "-a", sealing._PRIMARY,
             "-c", context)  # fmt: skip
    tpm.tool("tpm2_flushcontext", "-t")
    loaded = str(tmp_path / "object")
    tpm.tool("tpm2_load", "-C", context, "-u", str(tmp_path / "u"), "-r", str(tmp_path / "r"),
             "-c", loaded)  # fmt: skip
    tpm.tool("tpm2_flushcontext", "-t")
    for how in ([], ["-p", "pcr:sha256:7"]):
        done = tpm.run(
            ["tpm2_unseal", "-T", f"{tpm.driver}{tpm.socket}", "-c", loaded, *how], timeout=60
        )
        assert done.status != 0
        assert KEY not in done.output


def test_the_key_goes_through_a_pipe_and_nowhere_else(mine, tpm, folder):
    limits = bounds(mine)
    parts = sealed(mine, limits)
    mine.unseal(*parts, limits)
    assert tpm.secrets == [KEY]
    for spelling in (KEY, KEY.hex().encode(), KEY[:16]):
        assert not any(spelling in "\0".join(call).encode() for call in tpm.calls)
        assert not any(spelling in part for part in parts)
    assert list(folder.iterdir()) == []


def test_who_listens_on_the_bus_learns_nothing(mine, tpm):
    limits = bounds(mine)
    parts = sealed(mine, limits)
    mine.unseal(*parts, limits)
    assert parts[1][-16:] in tpm.bus, "this is what travels"
    assert KEY[:16] not in tpm.bus


def test_power_cuts_do_not_lock_it_out(mine, tpm):
    limits = bounds(mine, boots=100)
    parts = sealed(mine, limits)
    for _ in range(6):
        tpm.cut()
        assert mine.unseal(*parts, limits) == KEY


def test_each_program_is_told_which_tpm(mine, tpm):
    """Left to itself, tpm2-tools take whatever listens on a port of this machine."""
    limits = bounds(mine)
    mine.unseal(*sealed(mine, limits), limits)
    assert tpm.calls
    assert all(f"{tpm.driver}{tpm.socket}" in call for call in tpm.calls)


def test_sessions_are_given_back_also_after_a_refusal(mine, tpm):
    limits = bounds(mine)
    parts = sealed(mine, limits)
    with pytest.raises(RefusedByTpmError):
        mine.unseal(*parts, replace(limits, reset_limit=limits.reset_limit + 1))
    for kind in ("loaded", "saved"):
        assert tpm.tool("tpm2_getcap", f"handles-{kind}-session").strip() == ""


def test_a_tool_that_fails_is_named(mine, tpm):
    limits = bounds(mine)
    tpm.broken = {"tpm2_create"}
    with pytest.raises(TpmError, match="tpm2_create failed: ERROR: tpm2_create: out of memory"):
        sealed(mine, limits)


def test_a_machine_without_a_tpm_or_tools_says_so(mine, monkeypatch):
    assert mine.problem() is None

    def missing(tool):
        raise ToolMissingError(f"the program {tool} is not installed")

    monkeypatch.setattr(sealing, "locate", missing)
    assert mine.problem() == "the program tpm2_unseal is not installed"
    monkeypatch.setattr(sealing, "DEVICE", Path("/nowhere/tpmrm0"))
    assert mine.problem() == "no TPM 2.0 (/nowhere/tpmrm0 is not there)"
