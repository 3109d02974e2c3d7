"""`status`: what this machine knows without asking a server."""

import argparse
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from securecloud_agent.decide.offline import CODE as OFFLINE
from securecloud_agent.errors import AgentError
from securecloud_agent.main.outcome import progress_of
from securecloud_agent.main.output import print_json, print_table
from securecloud_agent.main.wiring import Agent, make_agent
from securecloud_agent.state.identity import read_enrolled
from securecloud_agent.volumes.volumes import HELD

if TYPE_CHECKING:
    from securecloud_agent.volumes.volumes import Volumes


def command(arguments: argparse.Namespace) -> int:
    """Print enrolment, devices and the last outcome of each."""
    agent = make_agent(arguments.config)
    status = collect(agent)
    if arguments.json:
        print_json(status)
    else:
        _print(status)
    return 0


def collect(agent: Agent) -> dict[str, Any]:
    """Return the status object."""
    enrolled = read_enrolled(agent.settings.state_dir)
    last = agent.memory.status()
    outcomes: dict[str, Any] = last.get("devices", {})
    volumes, graces = agent.volumes(), agent.graces()
    names = sorted({*outcomes, *agent.memory.devices()})
    return {
        "agent_name": agent.settings.name,
        "enrolled": enrolled is not None,
        "agent_id": enrolled.agent_id if enrolled else None,
        "server_id": enrolled.server_id if enrolled else None,
        "fingerprint": enrolled.fingerprint if enrolled else None,
        "server": last.get("server"),
        "audit_size": agent.memory.seen_head().size,
        "devices": [
            {
                **outcomes.get(name, {"device": name, "outcome": None, "code": None}),
                "volume": str(volumes.state(name)),
                "held": agent.marks.has(HELD, name),
                "grace": graces.shown(name),
                "offline": agent.offline_keys().shown(name),
                "encryption": progress_of(agent, name),
                "iscsi": _iscsi(agent, volumes, name),
            }
            for name in names
        ],
    }


def _remark(device: dict[str, Any]) -> str:
    if device["grace"]:
        offline = "offline, " if device["grace"]["code"] == OFFLINE else ""
        return f" ({offline}{device['grace']['text']})"
    return " (locked by the operator)" if device["held"] else ""


def _iscsi(agent: Agent, volumes: "Volumes", device: str) -> dict[str, Any] | None:
    """Return the remembered target of `device`, and whether there is a session that is up."""
    with suppress(AgentError):
        known = agent.memory.device(device)
        if known is not None and known.iscsi is not None:
            return {**asdict(known.iscsi), "connected": volumes.is_connected(known.iscsi)}
    return None


def _print(status: dict[str, Any]) -> None:
    if status["enrolled"]:
        print(f"{status['agent_name']} ({status['agent_id']})")
        print(f"server {status['fingerprint']}, last reached at {status['server'] or 'never'}")
    else:
        print(f"{status['agent_name']} is not enrolled")
    if status["devices"]:
        heading = ["DEVICE", "VOLUME", "LAST ANSWER", "AT"]
        rows = [
            [
                each["device"],
                each["volume"] + _remark(each),
                f"{each['outcome']} ({each['code']})",
                each.get("at", ""),
            ]
            for each in status["devices"]
        ]
        print_table([heading, *rows])
        for each in status["devices"]:
            if each["offline"]:
                print(f"{each['device']}: offline: {each['offline']['text']}")
            if each["encryption"]:
                print(f"{each['device']}: {each['encryption']['text']}")
            if each["iscsi"]:
                print(f"{each['device']}: {_where(each['iscsi'])}")


def _where(iscsi: dict[str, Any]) -> str:
    state = "connected" if iscsi["connected"] else "not connected"
    return f"iSCSI target {iscsi['target']} at {iscsi['portal']}, LUN {iscsi['lun']}: {state}"
