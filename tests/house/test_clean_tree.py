"""Rules about the text of the tree that reviewers would otherwise have to remember."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
COLLECTION = "collections/ansible_collections/trend/securecloud"


def tracked(*patterns: str) -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z", *patterns], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    return [ROOT / name for name in listing.split("\0") if name]


def offenders(pattern: str, *globs: str) -> list[str]:
    expression = re.compile(pattern, re.MULTILINE)
    return [
        f"{path.relative_to(ROOT)}: {match[0]!r}"
        for path in tracked(*globs)
        if path.is_file() and path != Path(__file__)
        for match in expression.finditer(path.read_text(errors="replace"))
    ]


def test_no_test_is_skipped_or_expected_to_fail() -> None:
    assert not offenders(r"pytest\.(mark\.)?(skip|xfail|importorskip)\w*", "*.py")


def test_no_test_sleeps() -> None:
    assert not offenders(r"\btime\.sleep\(", "*/tests/*.py", "tests/*.py")


def test_nothing_is_left_to_do_in_a_comment() -> None:
    assert not offenders(r"#.*\b(TODO|FIXME|XXX)\b", "*.py", "*.yml", "*.sh", "Makefile")


def test_every_silenced_lint_says_why() -> None:
    silenced = r"# (noqa|type: ignore)(?!\S*\s*[:\[][\w, -]+\]?\s+(-|#) \S).*"
    assert not offenders(silenced, "*.py")


def test_no_index_address_is_pinned() -> None:
    assert not offenders(r"(extra-)?index-url", "constraints.txt", "requirements*.txt", "*.toml")


def test_top_level_names_are_links_into_the_collection() -> None:
    for name in ("galaxy.yml", "roles", "playbooks"):
        link = ROOT / name
        assert link.is_symlink()
        assert str(link.readlink()) == f"{COLLECTION}/{name}"


def test_no_link_leads_out_of_the_tree() -> None:
    """A virtual environment that is a link here would take the place of one that is there."""
    links = [path for path in tracked() if path.is_symlink()]
    assert links
    assert not [path for path in links if not path.resolve().is_relative_to(ROOT)]
