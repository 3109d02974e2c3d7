"""A volume's key is replaced while its writer writes, and again where the power goes meanwhile."""

from collections.abc import Callable
from typing import Any

from tests.boot.guests import Api, Guest, eventually

DEVICE = "agent1-data"
SOURCE = "/dev/disk/by-id/virtio-data"
CRYPTSETUP = "/usr/sbin/cryptsetup"
STOPS_BEFORE_WIPING = f"""\
#!/bin/sh
case " $* " in
*" luksKillSlot "*) sleep infinity ;;
esac
exec {CRYPTSETUP}.real "$@"
"""


def slots(guest: Guest) -> int:
    dump = guest.run(f"cryptsetup luksDump {SOURCE}")
    return dump.count(": luks2")


def version(api: Api) -> int:
    key = api("GET", f"/keys/{DEVICE}")
    return int(key["version"]) if key["successor"] is None else 0


def test_a_key_is_replaced_while_its_volume_is_in_use(
    api: Api, agent1: Guest, module: Callable[..., Any], api_options: dict[str, str]
) -> None:
    agent1.until(DEVICE, "mounted")
    lines = int(agent1.run("wc -l </srv/data/log/lines"))
    done = module(
        "server",
        "key_rotation",
        **api_options,
        device=DEVICE,
        older_than="0s",
        wait=120,
        reason="somebody left",
    )
    assert done["changed"]
    assert version(api) == done["key"]["version"] == 2
    eventually("the old key is gone", lambda: slots(agent1) == 1)
    assert agent1.is_active("writer.service")
    eventually("it goes on", lambda: int(agent1.run("wc -l </srv/data/log/lines")) > lines)


def test_the_power_goes_while_a_key_is_replaced(api: Api, agent1: Guest) -> None:
    """The server has taken the new key into use, and the old one is still in its slot."""
    began = version(api)
    agent1.run("systemctl stop securecloud-agent")
    api("POST", f"/keys/{DEVICE}:rotate", {"reason": "somebody else left"})
    agent1.run(f"mv {CRYPTSETUP} {CRYPTSETUP}.real")
    agent1.run(f"cat >{CRYPTSETUP} && chmod 0755 {CRYPTSETUP}", stdin=STOPS_BEFORE_WIPING)
    agent1.run("systemctl start --no-block securecloud-agent")
    eventually("the slot is to go", lambda: agent1.run("pgrep -f '[l]uksKillSlot'", check=False))
    assert version(api) == began + 1
    assert slots(agent1) == 2
    agent1.run(f"mv {CRYPTSETUP}.real {CRYPTSETUP}; sync")
    agent1.machine.power_cut()
    agent1.machine.start()
    agent1.machine.wait_for_ssh()
    agent1.until(DEVICE, "mounted", outcome="granted")
    eventually("the old key is gone", lambda: slots(agent1) == 1)
    eventually("the writer runs", lambda: agent1.is_active("writer.service"))
