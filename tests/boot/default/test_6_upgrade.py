"""The next version on server and agents, while their volumes are in use."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from securecloud_agent import __version__

from lab.machine import Machine
from tests.boot.conftest import ROOT
from tests.boot.guests import Api, Guest

NEXT = "99.0.0"
PAUSE = 20
"""Seconds: an emulated machine under load is that slow, a volume that went is away for longer."""
USERS = {
    "protocol": ("agent", "server"),
    "audit": ("server",),
    "agent": ("agent",),
    "server": ("server",),
}
"""Our distributions, and on which machines each is."""


@pytest.fixture(scope="module")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `make wheelhouse` made, with our wheels in the next version."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheelhouse")
    shutil.copytree(ROOT / "build/wheelhouse", target, dirs_exist_ok=True)
    for wheel in target.rglob("securecloud_*.whl"):
        wheel.unlink()
    for part in USERS:
        shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        for path in (*source.glob(f"{part}/pyproject.toml"), *source.glob(f"{part}/src/*/*.py")):
            path.write_text(path.read_text().replace(__version__, NEXT))
        build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
        subprocess.run([*build, source, source / part], check=True, capture_output=True)
    for name, users in USERS.items():
        (wheel,) = source.glob(f"securecloud_{name}-{NEXT}-*.whl")
        for user in users:
            shutil.copy(wheel, target / user)
    return target


def test_upgrade_with_volumes_open(
    wheelhouse: Path, server: Machine, api: Api, agent1: Guest, agent2: Guest
) -> None:
    guests = (agent1, agent2)
    before = {guest.name: in_use(guest) for guest in guests}
    lines = {guest.name: int(guest.run("wc -l </srv/data/log/lines")) for guest in guests}
    done = subprocess.run(
        [
            *(Path(sys.executable).with_name("ansible-playbook"), "-i", ROOT / "inventories/lab"),
            *("-e", f"lab_wheelhouse={wheelhouse}", "-e", "securecloud_upgrade_batch=100%"),
            "trend.securecloud.upgrade",
        ],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert {guest.name: in_use(guest) for guest in guests} == before
    assert NEXT in server.ssh("/opt/securecloud/server/bin/securecloud-server --version")
    for guest in guests:
        assert longest_pause(guest, lines[guest.name]) < PAUSE
        assert NEXT in guest.agent("--version")
        guest.check_now()
        guest.until(f"{guest.name}-data", "mounted", outcome="granted", code="checked")
        assert api("GET", f"/agents/{guest.name}")["version"] == NEXT


def in_use(guest: Guest) -> dict[str, str]:
    """The writer's process and when the volume was mounted: both change if it ever goes."""
    return {
        "writer": guest.shown("writer.service", "MainPID"),
        "mounted": guest.shown("srv-data.mount", "ActiveEnterTimestampMonotonic"),
    }


def longest_pause(guest: Guest, first: int) -> int:
    """The writer writes the time each second: how long was it kept from it since line `first`?"""
    script = "NR > 1 && $1 - last > most { most = $1 - last } { last = $1 } END { print most + 0 }"
    return int(guest.run(f"tail -n +{first} /srv/data/log/lines | awk '{script}'"))
