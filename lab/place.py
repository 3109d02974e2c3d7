"""Where the lab keeps its things, and how it speaks."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


class LabError(Exception):
    """The lab could not do what was asked; the message says what to do."""


def say(text: str) -> None:
    """Tell the user what happens."""
    print(f"lab: {text}", file=sys.stderr, flush=True)


def cache() -> Path:
    """Return where images are kept; SECURECLOUD_LAB_CACHE lets checkouts share them."""
    return Path(os.environ.get("SECURECLOUD_LAB_CACHE") or ROOT / "build/lab/cache").resolve()
