"""`accept-log`: the server's audit log begins anew for this machine, after a backup was restored.

Only somebody on the machine can say so: a server that asked for it could hide what it logged.
"""

import argparse

from securecloud_agent.errors import say
from securecloud_agent.main.output import print_json
from securecloud_agent.main.wiring import make_agent
from securecloud_agent.state.files import only_instance
from securecloud_agent.state.memory import SeenHead

_VOLUME_SECONDS = 60


def command(arguments: argparse.Namespace) -> int:
    """Remember the given head in place of the one that was seen last."""
    agent = make_agent(arguments.config)
    head = SeenHead(arguments.size, arguments.root)
    with only_instance(agent.lock_file, "accept-log", agent.settings.deadline + _VOLUME_SECONDS):
        before = agent.memory.seen_head()
        changed = before != head
        if changed and not arguments.check:
            agent.memory.remember_head(head)
    if arguments.json:
        print_json({"changed": changed, "before": before.size, "after": head.size})
    elif changed:
        would = "would be" if arguments.check else "is"
        say(f"an audit log of {head.size} records {would} accepted, in place of {before.size}")
    else:
        say("this is the head that was seen last")
    return 0
