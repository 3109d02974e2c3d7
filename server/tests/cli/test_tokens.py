"""`token`: shown once, listed without their text, gone when revoked."""

from server.tests.cli.conftest import Installation


def test_a_token_lives_and_ends(installed: Installation) -> None:
    made = installed.json("token", "create", "--name", "ci", "--role", "auditor")
    assert made["token"].startswith(f"sct.{made['id']}.")
    assert made["origin"] == made["id"], "nobody but the command line vouches for it"
    listed = installed.run("token", "list", "--json")
    assert made["id"] in listed.stdout
    assert made["token"].rsplit(".", 1)[1] not in listed.stdout
    assert installed.json("token", "revoke", made["id"])["state"] == "revoked"
    states = {item["id"]: item["state"] for item in installed.json("token", "list")["items"]}
    assert states[made["id"]] == "revoked"


def test_without_json_only_the_token_is_on_standard_output(installed: Installation) -> None:
    done = installed.run(
        "token", "create", "--name", "x", "--role", "key_approver", "--expires-in", "60"
    )
    assert done.returncode == 0
    assert done.stdout.startswith("sct.")
    assert len(done.stdout.split()) == 1


def test_wrong_usage_ends_with_2(installed: Installation) -> None:
    for arguments in (
        ("token", "create", "--name", "x"),
        ("token", "create", "--name", "x", "--role", "king"),
        ("token", "create", "--name", "x", "--role", "auditor", "--expires-in", "1"),
        ("token", "revoke"),
        ("no-such-command",),
    ):
        done = installed.run(*arguments)
        assert done.returncode == 2, arguments
        assert "Usage" in done.stderr


def test_refusals_end_with_1_and_one_line(installed: Installation) -> None:
    for arguments, hint in (
        (("token", "revoke", "0123456789ab"), "there is no API token"),
        (("token", "create", "--name", " ", "--role", "auditor"), "name: "),
        (("token", "create", "--name", "admin", "--role", "auditor"), "admin"),
    ):
        done = installed.run(*arguments)
        assert done.returncode == 1, arguments
        assert hint in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_before_init_it_says_what_to_do(fresh: Installation) -> None:
    fresh.configure()
    done = fresh.run("token", "list")
    assert done.returncode == 1
    assert "master key" in done.stderr or "init" in done.stderr
