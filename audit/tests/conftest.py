"""A bundle of events 9 to 20 of a log of 40, fresh for every test."""

from collections.abc import Callable
from pathlib import Path

import pytest
from securecloud_audit.verify import Pin, Report, verify

from audit.tests.bundles import Bundle, make, server

Verify = Callable[[Bundle], Report]


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make(tmp_path_factory.mktemp("pristine") / "bundle.db", server())


@pytest.fixture
def bundle(pristine: Bundle, tmp_path: Path) -> Bundle:
    return pristine.copy(tmp_path / "bundle.db")


def check(bundle: Bundle) -> Report:
    """Verify with the pin of the server that made it."""
    return verify(bundle.path, Pin(fingerprint=bundle.fingerprint), lambda *_: None)
