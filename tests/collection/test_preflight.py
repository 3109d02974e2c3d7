"""The roles assert before they touch the machine, and say what to do."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.collection.conftest import HERE, ROOT
from tests.support.live import BIN

CASES: list[tuple[str, dict[str, Any], str]] = [
    ("management_server", {"management_server_listen": "8443"}, "must be ADDRESS:PORT, not 8443"),
    ("management_server", {"management_server_public_url": "http://h"}, "must be https://HOST"),
    ("management_server", {"management_server_tls_key_src": "k"}, "belong together"),
    ("management_server", {"management_server_storage_url": "mysql://h/x"}, "must be sqlite:////"),
    (
        "management_server",
        {"management_server_ca_file": "/nowhere.pem"},
        "/nowhere.pem is not there",
    ),
    ("management_server", {"management_server_wheelhouse": "/nowhere"}, "must hold exactly one"),
    ("management_server", {"management_server_python": "/bin/false"}, "/bin/false does not start"),
    ("management_server", {"management_server_workers": "many"}, "management_server_workers"),
    ("agent", {"agent_name": "Bad Name"}, "agent_name must be 1 to 63"),
    ("agent", {"agent_servers": ["http://h"]}, "agent_servers must be a list of https://HOST"),
    ("agent", {"agent_api_token": "sct.a.b"}, "exactly one of agent_api_token"),
    ("agent", {"agent_ca_file": "/nowhere.pem"}, "/nowhere.pem is not there"),
    ("agent", {"agent_supervision": "launchd"}, "launchd"),
    ("agent", {"agent_run_dir": "/run/" + "x" * 90}, "is too long for a socket in it"),
]


@pytest.mark.parametrize(("role", "variables", "message"), CASES)
def test_a_role_refuses_before_it_touches_anything(
    role: str, variables: dict[str, Any], message: str, short_path: Path
) -> None:
    demo = short_path / "demo"
    given = {"demo_root": str(demo), "role_name": f"trend.securecloud.{role}", **variables}
    done = subprocess.run(
        [
            *(BIN / "ansible-playbook", "-i", ROOT / "inventories/local"),
            *("-e", json.dumps(given), HERE / "one_role.yml"),
        ],
        env={
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_HOME": str(short_path / "ansible"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    assert message in " ".join((done.stdout + done.stderr).split())
    assert not demo.exists()
