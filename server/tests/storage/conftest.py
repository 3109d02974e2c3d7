"""Every test that asks for `database` runs on SQLite and on a real PostgreSQL."""

import hashlib
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from securecloud_server.storage import migrations
from securecloud_server.storage.database import SqlDatabase, make_engine, open_database

from tests.support.postgres import Cluster

Opener = Callable[[], SqlDatabase]
_NUMBERS = itertools.count()


def sign(size: int, root: bytes, at: int) -> bytes:
    """A signature that only this test run makes."""
    return hashlib.sha512(f"{size} {root.hex()} {at}".encode()).digest()


def check_signature(size: int, root: bytes, at: int, signature: bytes) -> None:
    if signature != sign(size, root, at):
        raise ValueError("not by this key")


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    cluster = Cluster()
    cluster.start()
    url = cluster.url("postgres")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE template")
    engine = make_engine(cluster.url("template"))
    migrations.upgrade(engine)
    engine.dispose()
    yield cluster
    cluster.remove()


def fresh_postgres(cluster: Cluster) -> str:
    """Return the URL of a database with an up-to-date schema."""
    name = f"test_{next(_NUMBERS)}"
    with psycopg.connect(cluster.url("postgres"), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE template")
    return cluster.url(name)


def fresh_sqlite(directory: Path) -> str:
    url = f"sqlite:///{directory}/securecloud.db"
    engine = make_engine(url)
    migrations.upgrade(engine)
    engine.dispose()
    return url


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return fresh_sqlite(tmp_path)
    return fresh_postgres(request.getfixturevalue("cluster"))


@pytest.fixture
def connect(url: str) -> Iterator[Opener]:
    """Open the database once more, as another process would."""
    opened = []

    def connect() -> SqlDatabase:
        opened.append(open_database(url, sign, lambda: 1_800_000_000.25))
        return opened[-1]

    yield connect
    for database in opened:
        database.close()


@pytest.fixture
def database(connect: Opener) -> SqlDatabase:
    return connect()
