"""`python -m lab up | down | reboot | ssh NAME | status | inventory`."""

import argparse
import json
import os
import sys
from pathlib import Path

from lab.inventory import inventory
from lab.lab import Lab
from lab.place import ROOT, LabError


def main() -> int:
    """Run one command."""
    parser = argparse.ArgumentParser(prog="lab", description=__doc__)
    parser.add_argument("--directory", type=Path, default=ROOT / "build/lab")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="build the image, start the machines, wait for them")
    commands.add_parser("down", help="switch the machines off and remove them")
    commands.add_parser("reboot", help="reboot every machine, and wait for them")
    commands.add_parser("status", help="list the machines")
    commands.add_parser("inventory", help="print the inventory as JSON")
    shell = commands.add_parser("ssh", help="open a shell on a machine, or run a command there")
    shell.add_argument("name")
    shell.add_argument("words", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    try:
        return _run(arguments, Lab(arguments.directory))
    except LabError as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace, lab: Lab) -> int:
    match arguments.command:
        case "up":
            lab.up()
        case "down":
            lab.down()
        case "reboot":
            lab.reboot()
        case "status":
            for machine in lab.machines():
                state = "running" if machine.is_running() else "off"
                print(f"{machine.name:10} {state:8} {' '.join(machine.ssh_command())}")
        case "inventory":
            print(json.dumps(inventory(lab), indent=2))
        case "ssh":
            command = [*lab.machine(arguments.name).ssh_command(), *arguments.words]
            sys.stderr.flush()
            os.execvp(command[0], command)
    return 0


if __name__ == "__main__":
    sys.exit(main())
