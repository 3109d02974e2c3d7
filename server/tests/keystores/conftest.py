"""A real KMIP server for the tests of keystores."""

from collections.abc import Iterator

import pytest

from tests.support.kmip import KmipServer, running_kmip_server


@pytest.fixture(scope="session")
def kmip_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KmipServer]:
    with running_kmip_server(tmp_path_factory.mktemp("kmip")) as server:
        yield server
