"""`enrol`: make the identity key, prove the server, bind the two."""

import argparse
import sys
from pathlib import Path
from typing import Any

from securecloud_agent.errors import AgentError, say
from securecloud_agent.main.hardening import protect_process
from securecloud_agent.main.output import print_json
from securecloud_agent.main.wiring import Agent, make_agent
from securecloud_agent.state.files import only_instance
from securecloud_agent.state.identity import (
    Enrolled,
    identity_key,
    read_enrolled,
    save_enrolled,
)

_LONGEST_TOKEN = 4096


def command(arguments: argparse.Namespace) -> int:
    """Enrol once; a second time with the same server changes nothing and uses no token."""
    protect_process()
    agent = make_agent(arguments.config)
    with only_instance(agent.lock_file, "enrol"):
        known = read_enrolled(agent.settings.state_dir)
        if known is None:
            known = _enrol(agent, arguments.token_file)
            changed = True
        else:
            _require_same(agent, known, arguments.token_file)
            changed = False
    _report(arguments, known, changed)
    return 0


def _report(arguments: argparse.Namespace, known: Enrolled, changed: bool) -> None:
    if arguments.json:
        print_json(
            {
                "changed": changed,
                "agent_id": known.agent_id,
                "agent_name": known.agent_name,
                "server_id": known.server_id,
                "fingerprint": known.fingerprint,
            }
        )
        return
    done = "enrolled" if changed else "already enrolled"
    say(f"{done} as {known.agent_name} ({known.agent_id}) with server {known.fingerprint}")


def _read_token(where: str) -> str:
    """Return the token's text; empty when there is none."""
    try:
        if where == "-":
            return sys.stdin.read(_LONGEST_TOKEN).strip()
        with Path(where).open(encoding="ascii") as file:
            return file.read(_LONGEST_TOKEN).strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError):
        raise AgentError(f"the enrolment token in {where} cannot be read") from None


def _parse(text: str, where: str) -> Any:
    from securecloud_protocol.errors import ProtocolError
    from securecloud_protocol.token import parse_token

    if not text:
        raise AgentError(f"there is no enrolment token in {where}", "enrolment_refused")
    try:
        return parse_token(text)
    except ProtocolError as error:
        raise AgentError(f"{where}: {error.detail}", "enrolment_refused") from None


def _require_same(agent: Agent, known: Enrolled, token_file: str) -> None:
    text = _read_token(token_file)
    if text and _parse(text, token_file).fingerprint != known.fingerprint:
        raise AgentError(
            f"this machine is enrolled with server {known.fingerprint}; the token is for another"
            f" one. To move it, retire the agent there and remove {agent.settings.state_dir}",
            "identity_conflict",
        )
    if known.agent_name != agent.settings.name:
        raise AgentError(
            f"agent.name is {agent.settings.name}, but this machine is enrolled as"
            f" {known.agent_name}; set agent.name back, or retire the agent and enrol anew",
            "identity_conflict",
        )


def _enrol(agent: Agent, token_file: str) -> Enrolled:
    from securecloud_agent.client.connection import Peers
    from securecloud_agent.client.enrolment import enrol
    from securecloud_agent.client.tls import Deadline

    settings = agent.settings
    token = _parse(_read_token(token_file), token_file)
    peers = Peers(settings.ca_file, agent.clocks.now)
    key = identity_key(settings.state_dir)
    deadline = Deadline(settings.deadline, agent.clocks.monotonic)
    server, answer = enrol(settings.servers, peers, deadline, settings.name, key, token)
    enrolled = Enrolled(
        agent_id=answer.agent_id,
        agent_name=answer.agent_name,
        server_id=server.server_id,
        kem_key=server.kem_key,
        signing_key=server.signing_key,
        fingerprint=token.fingerprint,
    )
    save_enrolled(settings.state_dir, enrolled)
    return enrolled
