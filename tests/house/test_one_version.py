"""The product has one version, wherever it stands."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
COLLECTION = ROOT / "collections/ansible_collections/trend/securecloud"


def the_version() -> str:
    return str(yaml.safe_load((COLLECTION / "galaxy.yml").read_text())["version"])


@pytest.mark.parametrize("part", ["protocol", "audit", "agent", "server"])
def test_each_distribution_has_the_version_of_the_collection(part: str) -> None:
    text = (ROOT / part / "src" / f"securecloud_{part}" / "__init__.py").read_text()
    match = re.search(r'__version__ = "(.+)"', text)
    assert match
    assert match[1] == the_version()


@pytest.mark.parametrize("part", ["audit", "agent", "server"])
def test_the_others_require_the_protocol_of_their_own_version(part: str) -> None:
    project = tomllib.loads((ROOT / part / "pyproject.toml").read_text())["project"]
    assert f"securecloud-protocol=={the_version()}" in project["dependencies"]


def test_the_server_requires_the_format_of_bundles_of_its_own_version() -> None:
    project = tomllib.loads((ROOT / "server/pyproject.toml").read_text())["project"]
    assert f"securecloud-audit=={the_version()}" in project["dependencies"]
