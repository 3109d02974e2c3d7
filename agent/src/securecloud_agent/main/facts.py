"""`facts`: what a policy would see of this machine."""

import argparse
from typing import Any

from securecloud_protocol.messages import Fact, FactRequest

from securecloud_agent.errors import AgentError
from securecloud_agent.main.output import print_json
from securecloud_agent.main.wiring import make_agent
from securecloud_agent.probes.collect import collect, names


def command(arguments: argparse.Namespace) -> int:
    """Print facts; exit status 1 when one of them is not known."""
    agent = make_agent(arguments.config)
    requests = [_request(text) for text in arguments.facts or names()]
    facts = collect(requests, agent.probe_context())
    document = {name: _member(fact) for name, fact in facts.items()}
    if arguments.json:
        print_json(document)
    else:
        for name, member in document.items():
            print(f"{name}: {member.get('error') or member['value']}")
    asked = bool(arguments.facts)
    return 1 if asked and any(fact.error for fact in facts.values()) else 0


def _request(text: str) -> FactRequest:
    name, _, arguments = text.partition("=")
    if name not in names():
        raise AgentError(f"{name} is no fact of this agent; there is: {', '.join(names())}")
    return FactRequest(name, tuple(arguments.split(",")) if arguments else ())


def _member(fact: Fact) -> dict[str, Any]:
    if fact.error is not None:
        return {"error": fact.error}
    return {"value": fact.value, "provenance": fact.provenance}
