"""Commands and their options. A command's module is imported only when it runs."""

import argparse
import importlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from securecloud_agent import __version__
from securecloud_agent.config import DEFAULT_PATH

_DEVICE = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")


def _command(module: str) -> Callable[[argparse.Namespace], int]:
    def run(arguments: argparse.Namespace) -> int:
        found: Any = importlib.import_module(f"securecloud_agent.main.{module}")
        status: int = found.command(arguments)
        return status

    return run


def _device(text: str) -> str:
    if not _DEVICE.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a device name")
    return text


def _seconds(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError("expected whole seconds")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError("expected a number of records")
    return int(text)


def _root(text: str) -> bytes:
    if not re.fullmatch("[0-9a-f]{64}", text):
        raise argparse.ArgumentTypeError("expected 64 hexadecimal digits")
    return bytes.fromhex(text)


_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_TIME = re.compile(r"([0-9]{1,7})([smhd]?)")


def _time(text: str) -> int:
    """Return the seconds of `90`, `90s`, `15m`, `2h` or `1d`."""
    found = _TIME.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise argparse.ArgumentTypeError("expected a time such as 90s, 15m or 2h")
    return int(found[1]) * _UNITS[found[2]]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="securecloud-agent",
        description="Proves this machine's state to the management server, and opens and locks its"
        " encrypted volumes.",
        epilog="Exit status: 0 done, 1 failed, 2 usage, 3 one is pending, 4 one is denied.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--config", type=Path, default=DEFAULT_PATH, metavar="PATH", help="default: %(default)s"
    )
    return parser


def parse(argv: Sequence[str]) -> argparse.Namespace:
    """Return the parsed arguments; `command` is what to call with them."""
    parser = _parser()
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(command=_command(name.replace("-", "_")), name=name)
        return command

    configure = add("configure", "Write agent.toml from JSON settings on standard input, or ask.")
    _flag(configure, "--check", "say what would change and write nothing")
    enrol = add("enrol", "Bind this machine to the server that made the enrolment token.")
    enrol.add_argument("--token-file", required=True, metavar="PATH", help="- for standard input")
    unlock = add("unlock", "Ask for the keys of this machine's devices, open and mount them.")
    unlock.add_argument("devices", nargs="*", type=_device, metavar="DEVICE")
    unlock.add_argument(
        "--wait", type=_seconds, default=0, metavar="SECONDS", help="keep asking while pending"
    )
    _flag(unlock, "--check", "say what would be asked for; ask for no key and change nothing")
    check = add(
        "check",
        "Have this machine judged now: what is granted is opened, what is denied locked. The"
        " service does so regularly, and when a fact changes.",
    )
    check.add_argument("devices", nargs="*", type=_device, metavar="DEVICE")
    _flag(check, "--check", "say what would be asked for; ask for no key and change nothing")
    encrypt = add(
        "encrypt",
        "Make a device's volume an encrypted one: a blank one new, a file system in place with its"
        " data kept. Safe to interrupt; the service goes on with it, also after a reboot.",
    )
    encrypt.add_argument("device", type=_device, metavar="DEVICE")
    _flag(encrypt, "--background", "leave it to the running service")
    _flag(encrypt, "--check", "say whether anything would be done, and do nothing")
    lock = add(
        "lock",
        "Unmount and close devices, or suspend those that somebody holds; they stay so until"
        " `unlock` or a reboot.",
    )
    lock.add_argument("devices", nargs="*", type=_device, metavar="DEVICE")
    _flag(
        lock,
        "--abandon",
        "give up what is suspended: who waits for it gets errors instead; nothing else is locked",
    )
    postpone = add("postpone", "Move the end of a grace, as far as the policy allows.")
    postpone.add_argument("device", type=_device, metavar="DEVICE")
    postpone.add_argument(
        "--by", type=_time, default="15m", metavar="TIME", help="90s, 15m, 2h; default: 15m"
    )
    accept = add(
        "accept-log",
        "Accept the server's audit log as it is after a backup was restored there.",
    )
    accept.add_argument("--size", type=_count, required=True, metavar="RECORDS")
    accept.add_argument(
        "--root", type=_root, required=True, metavar="HEX", help="as `restore` printed it"
    )
    _flag(accept, "--check", "say whether anything would change, and change nothing")
    status = add("status", "Show enrolment and devices; asks no server.")
    facts = add("facts", "Show this machine's facts as a policy would see them.")
    facts.add_argument(
        "facts", nargs="*", metavar="NAME", help="NAME, or NAME=ARG,ARG for paths or packages"
    )
    add("run", "Stay in the foreground: unlock, keep asking while pending, check regularly.")
    everything = (configure, enrol, unlock, check, encrypt, lock, postpone, accept, status, facts)
    for command in everything:
        _flag(command, "--json", "print the result as JSON on standard output")
    return parser.parse_args(argv)


def _flag(parser: argparse.ArgumentParser, name: str, text: str) -> None:
    parser.add_argument(name, action="store_true", help=text)
