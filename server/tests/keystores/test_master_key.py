"""Where the master key comes from, and when it is refused."""

from pathlib import Path

import pytest
from securecloud_server.domain.errors import Unavailable
from securecloud_server.keystores.master_key import create_master_key, load_master_key


def test_a_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    assert create_master_key(f"file:{path}")
    text = path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert not create_master_key(f"file:{path}")
    assert path.read_text() == text
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_sealed_opens_after_loading_again(tmp_path: Path) -> None:
    create_master_key(f"file:{tmp_path}/k")
    sealed = load_master_key(f"file:{tmp_path}/k").seal(b"secret", "purpose", "a", "b")
    again = load_master_key(f"file:{tmp_path}/k")
    assert again.open(sealed, "purpose", "a", "b") == b"secret"
    for purpose, context in (("other", ("a", "b")), ("purpose", ("ab",)), ("purpose", ("a",))):
        with pytest.raises(Unavailable):
            again.open(sealed, purpose, *context)


@pytest.mark.parametrize("text", ["", "short", "not base64 at all!", "A" * 1000])
def test_what_is_no_key_is_refused_without_showing_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "k"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(Unavailable) as refusal:
        load_master_key(f"file:{path}")
    assert not text or text not in str(refusal.value)


def test_a_key_that_everyone_can_read_is_refused(tmp_path: Path) -> None:
    create_master_key(f"file:{tmp_path}/k")
    (tmp_path / "k").chmod(0o604)
    with pytest.raises(Unavailable, match="0600"):
        load_master_key(f"file:{tmp_path}/k")


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"master\.key"):
        load_master_key(f"file:{tmp_path}/master.key")


def test_a_directory_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be created"):
        create_master_key(f"file:{tmp_path}/absent/master.key")


def test_a_systemd_credential_is_read_where_systemd_puts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Unavailable, match="systemd passed no credentials"):
        load_master_key("credential:master")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    with pytest.raises(Unavailable, match="does not exist"):
        create_master_key("credential:master")
    create_master_key(f"file:{tmp_path}/master")
    assert load_master_key("credential:master")
