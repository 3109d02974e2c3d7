"""`db upgrade`."""

from server.tests.cli.conftest import Installation


def test_an_up_to_date_schema_needs_nothing(installed: Installation) -> None:
    same = {"changed": False, "before": 1, "after": 1}
    assert installed.json("db", "upgrade") == same
    assert installed.json("db", "upgrade", "--check") == same


def test_without_a_database_it_points_to_init(fresh: Installation) -> None:
    fresh.configure()
    done = fresh.run("db", "upgrade")
    assert done.returncode == 1
    assert "init" in done.stderr
