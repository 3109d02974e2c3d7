"""A LUKS2 volume as the agent formats it, and the documentation's commands that open it."""

import os
import re
import subprocess
from pathlib import Path

DOCUMENT = (Path(__file__).parents[2] / "docs/server.md").read_text(encoding="utf-8")
_SIZE = 32 * 1024 * 1024
_WITHOUT_KERNEL = """#!/bin/sh
# The real cryptsetup, for where the kernel has no dm-crypt: everything but the mapping.
case "$1" in
open) shift; exec /usr/sbin/cryptsetup open --test-passphrase "$@" ;;
*) exec /usr/sbin/cryptsetup "$@" ;;
esac
"""


def volume(path: Path, key: bytes) -> Path:
    """Make a file with LUKS2 headers that opens with `key`."""
    with path.open("wb") as file:
        file.truncate(_SIZE)
    command = ["/usr/sbin/cryptsetup", "luksFormat", "--batch-mode", "--type=luks2",
               "--cipher=aes-xts-plain64", "--key-size=512", "--pbkdf=pbkdf2", "--key-file=-",
               "--pbkdf-force-iterations=1000", "--keyfile-size=64", path]  # fmt: skip
    subprocess.run(command, input=key, check=True, capture_output=True)
    return path


def documented(name: str) -> list[str]:
    """Return the commands between two marks in docs/server.md, without their prompts."""
    match = re.search(f"<!-- {name} -->(.*?)<!-- end of {name} -->", DOCUMENT, re.DOTALL)
    assert match, name
    lines = "\n".join(re.findall("^```console\n(.*?)^```$", match[1], re.MULTILINE | re.DOTALL))
    return re.split(r"^[#$] ", lines, flags=re.MULTILINE)[1:]


def run(command: str, directory: Path, disk: Path) -> subprocess.CompletedProcess[str]:
    """Run a documented command as somebody would who has the disk."""
    programs = directory / "programs"
    programs.mkdir(exist_ok=True)
    (programs / "cryptsetup").write_text(_WITHOUT_KERNEL)
    (programs / "cryptsetup").chmod(0o755)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "DISK": str(disk)}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=directory, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
