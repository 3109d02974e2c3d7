"""The documentation of policies is true: its examples compile, its tables are complete."""

import re
import textwrap
from pathlib import Path

import pytest
import yaml
from securecloud_server.domain.evidence import Provenance
from securecloud_server.domain.facts import CATALOGUE, FactSpec
from securecloud_server.domain.operators import OPERATORS
from securecloud_server.domain.policy import ActionKind, compile_policy

TEXT = (Path(__file__).parents[3] / "docs" / "policies.md").read_text(encoding="utf-8")
EXAMPLES = [
    textwrap.dedent(example)
    for example in re.findall(
        r"^ *```yaml (?:(?:stored |draft )?policy)\n(.*?)^ *```$", TEXT, re.MULTILINE | re.DOTALL
    )
]


def fields(spec: FactSpec) -> dict[str, str]:
    """Return type and unit by path, as the table writes them."""
    named = {f"{spec.name}.{key}": field for key, field in spec.fields.items()}
    if spec.field:
        named[spec.name] = spec.field
    return {
        path: field.type.value.replace("_", " ")
        + (f" of {field.values.value}s" if field.values else "")
        + (" ∅" if field.nullable else "")
        + f" | {field.unit or ''}"
        for path, field in named.items()
    }


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_compiles(example: str) -> None:
    assert compile_policy(yaml.safe_load(example)).normalised["rules"]


def test_the_table_of_facts_is_the_catalogue() -> None:
    table = re.findall(r"^\| `([a-z_.]+)` \| ([^|]+ \| [^|]*) \|", TEXT, re.MULTILINE)
    documented = {path: rest for path, rest in table if path.partition(".")[0] in CATALOGUE}
    expected = {path: rest for spec in CATALOGUE.values() for path, rest in fields(spec).items()}
    assert documented == expected


def test_every_operator_has_an_example() -> None:
    used = set(re.findall(r"operator: ([a-z_]+)", "".join(EXAMPLES)))
    assert used == {name for operators in OPERATORS.values() for name in operators}


@pytest.mark.parametrize("name", [*ActionKind, *Provenance])
def test_every_action_and_provenance_is_explained(name: str) -> None:
    assert f"| `{name}` |" in TEXT
