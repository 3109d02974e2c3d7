"""A master key of shares: any that are enough make it, fewer do not, and mistakes are found."""

from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securecloud_server.domain.errors import Conflict, Invalid, Unavailable
from securecloud_server.keystores.master_key import load_master_key
from securecloud_server.keystores.shares import combine, parse, split
from securecloud_server.keystores.unsealing import Gathered, Unsealing

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@pytest.fixture
def memory() -> Iterator[Path]:
    """A directory in memory."""
    with TemporaryDirectory(dir="/dev/shm") as directory:
        yield Path(directory)


@pytest.fixture
def unsealing(memory: Path) -> Unsealing:
    return Unsealing(memory / "master.key")


@given(st.integers(2, 6).flatmap(lambda n: st.tuples(st.just(n), st.integers(2, n))))
def test_any_that_are_enough_make_the_same_key(size: tuple[int, int]) -> None:
    shares, needed = size
    made = split(shares, needed)
    keys = {combine(some) for some in combinations(made, needed)}
    assert len(keys) == 1
    assert len(keys.pop()) == 32


def test_fewer_make_none() -> None:
    made = split(5, 3)
    for some in combinations(made, 2):
        with pytest.raises(Invalid, match="does not go together"):
            combine(some)


def test_no_two_keys_are_the_same() -> None:
    assert len({combine(split(2, 2)) for _ in range(50)}) == 50


@pytest.mark.parametrize(("shares", "needed"), [(1, 1), (3, 1), (3, 4), (17, 2), (0, 0), (5, -1)])
def test_numbers_that_are_not_possible(shares: int, needed: int) -> None:
    with pytest.raises(Invalid, match="needed"):
        split(shares, needed)


def test_a_share_is_read_however_it_is_typed() -> None:
    share = split(3, 2)[0]
    text = share.text()
    assert len(text) == 54
    for typed in (text, text.lower(), text.replace("-", ""), f"  {text.replace('-', ' ')}\n"):
        assert parse(typed) == share
    assert text not in repr(share)


@given(st.integers(0, 43), st.sampled_from(LETTERS))
def test_every_mistake_in_a_letter_is_found(where: int, letter: str) -> None:
    text = split(2, 2)[0].text().replace("-", "")
    mistaken = text[:where] + letter + text[where + 1 :]
    # The last letter carries one bit of the share and four of nothing.
    if mistaken == text or (where == 43 and parse_or_none(mistaken) == parse(text)):
        return
    with pytest.raises(Invalid) as refusal:
        parse(mistaken)
    assert mistaken not in str(refusal.value)


def parse_or_none(text: str) -> object:
    try:
        return parse(text)
    except Invalid:
        return None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not complete"),
        ("ABCD", "not complete"),
        ("0189" * 11, "neither a letter"),
        ("Ä" * 44, "neither a letter"),
        ("A" * 44, "has a mistake"),
        ("A" * 400, "too long"),
    ],
)
def test_what_is_no_share(text: str, reason: str) -> None:
    with pytest.raises(Invalid, match=reason):
        parse(text)


def test_people_come_one_after_the_other(memory: Path, unsealing: Unsealing) -> None:
    made = split(5, 3)
    assert unsealing.state() == Gathered(0, None, False)
    assert unsealing.add(made[4].text()) == Gathered(1, 3, False)
    # In another process, later.
    later = Unsealing(memory / "master.key")
    assert later.add(made[0].text().lower()) == Gathered(2, 3, False)
    assert later.state() == Gathered(2, 3, False)
    with pytest.raises(Unavailable, match="the server is sealed"):
        load_master_key(f"shares:{memory}/master.key")
    assert later.add(made[2].text()) == Gathered(0, 3, True)
    assert unsealing.state().unsealed
    key = memory / "master.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert list((memory / "shares").iterdir()) == []
    sealed = load_master_key(f"shares:{key}").seal(b"secret", "purpose")
    key.unlink()
    for share in made[1:4]:
        unsealing.add(share.text())
    assert load_master_key(f"shares:{key}").open(sealed, "purpose") == b"secret"


def test_shares_that_do_not_help_change_nothing(unsealing: Unsealing) -> None:
    made, others = split(3, 2), split(3, 2)
    unsealing.add(made[0].text())
    for share, reason in ((made[0], "number 1, which is here already"), (others[1], "of another")):
        with pytest.raises(Invalid, match=reason):
            unsealing.add(share.text())
    assert unsealing.state() == Gathered(1, 2, False)
    unsealing.add(made[1].text())
    with pytest.raises(Conflict, match="unsealed"):
        unsealing.add(made[2].text())


def test_what_is_here_can_be_forgotten(unsealing: Unsealing) -> None:
    unsealing.add(split(3, 2)[0].text())
    unsealing.forget()
    assert unsealing.state() == Gathered(0, None, False)
    unsealing.add(split(3, 2)[0].text())


def test_a_share_is_kept_in_memory_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="is not in memory"):
        Unsealing(Path("/sys/kernel/master.key")).add(split(2, 2)[0].text())
    with pytest.raises(Unavailable, match="there is no directory"):
        Unsealing(tmp_path / "absent/master.key").add(split(2, 2)[0].text())
