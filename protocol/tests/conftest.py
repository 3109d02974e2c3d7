"""Makes the helpers beside the tests importable, and a world to test in."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from protocol_world import Stage, World


@pytest.fixture(scope="session")
def world() -> World:
    return World()


@pytest.fixture(scope="session")
def stage(world: World) -> Stage:
    """One whole exchange with every message and every endpoint as it was before the message."""
    return Stage.play(world)
