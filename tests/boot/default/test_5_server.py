"""The management server's machine boots: it comes back with its keys, and the agents notice."""

import json

from lab.machine import Machine
from tests.boot.guests import Api, Guest, eventually


def test_the_server_comes_back_with_its_keys(
    server: Machine, api: Api, agent1: Guest, agent2: Guest
) -> None:
    server.reboot()

    def answers() -> bool:
        try:
            return bool(api("GET", "/agents")["items"])
        except OSError:
            return False

    eventually("the server answers", answers)
    for guest in (agent1, agent2):
        guest.check_now()
        guest.until(f"{guest.name}-data", "mounted", outcome="granted")
    agent2.agent("lock agent2-data")
    # What it says itself: the service's next check is another outcome.
    unlock = "/opt/securecloud/agent/bin/securecloud-agent unlock --json agent2-data 2>/dev/null"
    (told,) = json.loads(agent2.run(unlock))["devices"]
    assert (told["outcome"], told["code"], told["volume"]) == ("granted", "approved", "mounted")
    eventually("the writer runs", lambda: agent2.is_active("writer.service"))


def test_the_master_key_is_on_the_disk_only_encrypted(server: Machine) -> None:
    assert "securecloud-master-key" in server.ssh("ls /etc/credstore.encrypted")
    assert "master.key" not in server.ssh("ls -A /var/lib/securecloud/server")
    told = server.ssh("/opt/securecloud/server/bin/securecloud-server doctor 2>&1", check=False)
    assert "systemd passed no credentials" in told
