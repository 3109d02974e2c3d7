"""A database of an earlier version keeps its data, and the rest says of it what is known."""

from pathlib import Path

import psycopg
import pytest
from securecloud_server.storage import migrations
from securecloud_server.storage.database import make_engine
from sqlalchemy import text

from server.tests.storage.conftest import fresh_postgres

_AGENT = """INSERT INTO agents (name, agent_id, identity_key, state, enrolled_at)
    VALUES ('web1', 'a', {blob}, 'active', 1)"""
_DEVICE = """INSERT INTO devices
    (name, device_id, agent, enabled, volume, created_at, updated_at, revision)
    VALUES ('{0}', '{0}', 'web1', true, '{{}}', 1, 1, 1)"""
_TOKEN = """INSERT INTO api_tokens (token_id, name, role, secret_hash, created_at)
    VALUES ('{0}', '{0}', 'auditor', {blob}, 1)"""
_STATE = """INSERT INTO device_states (device_id, quarantined, last_release_at)
    VALUES ('{}', false, {})"""


@pytest.fixture(params=["sqlite", "postgresql"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database without a schema."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/securecloud.db"
    cluster = request.getfixturevalue("cluster")
    url = fresh_postgres(cluster)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    return url


def test_a_key_that_ever_went_out_may_be_in_use(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = make_engine(empty)
    with monkeypatch.context() as patch:
        earlier = {number: migrations.MIGRATIONS[number] for number in (1, 2)}
        patch.setattr(migrations, "MIGRATIONS", earlier)
        assert migrations.upgrade(engine) == [1, 2]
    blob = "x'00'" if empty.startswith("sqlite") else r"'\x00'"
    with engine.begin() as connection:
        for statement in (
            _AGENT.format(blob=blob),
            _DEVICE.format("used"),
            _DEVICE.format("new"),
            _STATE.format("used", 17),
            _STATE.format("new", "NULL"),
        ):
            connection.execute(text(statement.replace(":", r"\:")))
    assert migrations.upgrade(engine) == list(range(3, migrations.LATEST + 1))
    with engine.connect() as connection:
        found = connection.execute(
            text("SELECT device_id, volume_state, volume_state_at FROM device_states ORDER BY 1")
        ).fetchall()
    assert [tuple(row) for row in found] == [("new", None, None), ("used", "released", 17)]
    assert migrations.upgrade(engine) == []
    engine.dispose()


def test_of_the_tokens_that_are_there_nobody_knows_who_minted_them(
    empty: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So they count as one person's, all together."""
    engine = make_engine(empty)
    with monkeypatch.context() as patch:
        earlier = {number: migrations.MIGRATIONS[number] for number in (1, 2, 3, 4)}
        patch.setattr(migrations, "MIGRATIONS", earlier)
        migrations.upgrade(engine)
    blob = "x'00'" if empty.startswith("sqlite") else r"'\x00'"
    with engine.begin() as connection:
        for name in ("a", "b"):
            connection.execute(text(_TOKEN.format(name, blob=blob)))
    assert migrations.upgrade(engine) == list(range(5, migrations.LATEST + 1))
    with engine.connect() as connection:
        found = connection.execute(text("SELECT token_id, origin FROM api_tokens ORDER BY 1"))
        assert [tuple(row) for row in found] == [("a", ""), ("b", "")]
    engine.dispose()
