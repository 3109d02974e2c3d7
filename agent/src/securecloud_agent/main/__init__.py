"""The command line, and the only room that wires the others together."""

import sys
from collections.abc import Sequence

from securecloud_agent.errors import AgentError, say


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return 0 done, 1 failed, 2 usage, 3 pending, 4 denied."""
    from securecloud_agent.main.arguments import parse

    arguments = parse(sys.argv[1:] if argv is None else argv)
    try:
        status: int = arguments.command(arguments)
    except AgentError as error:
        say(error)
        return 1
    except KeyboardInterrupt:
        return 130
    return status
