"""`make demo`: from nothing to a policy-gated key release, then every other ending."""

import argparse
import shutil
import sys

from demo import story
from demo.machine import Machine


def main() -> int:
    """Run the demo, or stop what it started."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--stop", action="store_true", help="stop what the demo started")
    parser.add_argument("--no-color", action="store_true", help="plain text")
    options = parser.parse_args()
    machine = Machine.here()
    if options.stop:
        return machine.stop()
    if shutil.which("cryptsetup", path=machine.path) is None:
        print("cryptsetup is missing: run `make packages`", file=sys.stderr)
        return 1
    color = sys.stdout.isatty() and not options.no_color
    return story.tell(machine, story.Narrator(color=color))


if __name__ == "__main__":
    sys.exit(main())
