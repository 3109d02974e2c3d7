"""A server with a token of every role, and callers of its admin API."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest
from securecloud_server import app, installation
from securecloud_server.domain.privileges import ROLES
from securecloud_server.domain.records import Actor
from securecloud_server.settings import Settings, parse_settings
from securecloud_server.web.http import Handler

from server.tests.admin.api import ADMINISTRATOR, Caller
from server.tests.exchange.conftest import CERTIFICATE, Clock, Machine, Server


class AdminServer(Server):
    """The server of the exchange's tests; it builds the agent API when a machine first calls."""

    def __post_init__(self) -> None:
        self.http = app.web(self.application).test_client()

    @cached_property
    def handler(self) -> Handler:  # type: ignore[override]  # a field there
        return app.handler(self.application)


@dataclass(frozen=True)
class Template:
    """An initialised server's files, and the text of its tokens by role."""

    directory: Path
    tokens: dict[str, str]

    @contextmanager
    def server(self, directory: Path, clock: Clock) -> Iterator[Server]:
        """Serve a copy of the files."""
        for file in self.directory.iterdir():
            shutil.copy(file, directory)
        application = app.build(_settings(directory), [CERTIFICATE], clock=clock)
        try:
            yield AdminServer(application, clock)
        finally:
            application.close()


def _settings(directory: Path) -> Settings:
    return parse_settings(
        {
            "storage": {"url": f"sqlite:///{directory}/securecloud.db"},
            "keystore": {"master_key": f"file:{directory}/master.key"},
        }
    )


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Template:
    directory = tmp_path_factory.mktemp("template")
    settings, clock = _settings(directory), Clock()
    installation.prepare(settings, clock=clock)
    application = app.build(settings, clock=clock)
    create, actor = application.admin.api_tokens.create, Actor("cli", "test")
    tokens = {role: create(actor, role, role, None)[1] for role in ROLES}
    application.close()
    return Template(directory, tokens)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def server(template: Template, tmp_path: Path, clock: Clock) -> Iterator[Server]:
    with template.server(tmp_path, clock) as server:
        yield server


@pytest.fixture
def as_role(server: Server, template: Template) -> Callable[[str], Caller]:
    """Return what makes a caller of a role."""
    return lambda role: Caller(server.http, template.tokens[role])


@pytest.fixture
def admin(as_role: Callable[[str], Caller]) -> Caller:
    return as_role(ADMINISTRATOR)


@pytest.fixture
def machine(server: Server) -> Machine:
    """An enrolled machine, `web1`."""
    return server.machine("web1")
