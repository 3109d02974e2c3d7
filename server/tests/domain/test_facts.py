"""The catalogue of facts and the paths into it."""

import pytest
from securecloud_server.domain.fact_paths import FactPathError, resolve
from securecloud_server.domain.facts import CATALOGUE, FieldType


def test_every_fact_is_one_field_or_an_object_of_fields() -> None:
    assert all((spec.field is None) is bool(spec.fields) for spec in CATALOGUE.values())


def test_only_the_server_supplies_device_and_request() -> None:
    supplied = {name for name, spec in CATALOGUE.items() if spec.supplied_by_server}
    assert supplied == {"device", "request"}
    assert CATALOGUE["request"].default_provenance == "observed"
    assert CATALOGUE["host_name"].default_provenance == "claimed"


@pytest.mark.parametrize(
    ("path", "field_type", "canonical"),
    [
        ("host_name", FieldType.STRING, "host_name"),
        ("os.version_id", FieldType.VERSION, "os.version_id"),
        ("patch_level.days_since_update", FieldType.INTEGER, "patch_level.days_since_update"),
        ("request.source_ip", FieldType.IP, "request.source_ip"),
        ("packages", FieldType.MAP, "packages"),
        ("packages.g++", FieldType.VERSION, "packages.g++"),
        ('packages."openssl"', FieldType.VERSION, "packages.openssl"),
        ('packages."libssl1.1"', FieldType.VERSION, 'packages."libssl1.1"'),
        ('file_digests."/etc/p.conf"', FieldType.STRING, 'file_digests."/etc/p.conf"'),
        ("tpm_pcrs.7", FieldType.STRING, "tpm_pcrs.7"),
        ('tpm_pcrs."23"', FieldType.STRING, "tpm_pcrs.23"),
    ],
)
def test_a_path_leads_to_a_typed_field(path: str, field_type: FieldType, canonical: str) -> None:
    found = resolve(path)
    assert found.field.type is field_type
    assert str(found) == canonical


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("hostname", "unknown fact 'hostname'; did you mean 'host_name'?"),
        ("zzzzzz", "unknown fact 'zzzzzz'"),
        ("os.verion_id", "fact 'os' has no field 'verion_id'; did you mean 'version_id'?"),
        ("location", "fact 'location' holds several fields; name one of them"),
        ("host_name.x", "fact 'host_name' has no fields"),
        ("os.id.x", "'os.id.x' has too many parts"),
        (
            "packages.libssl1.1",
            "'packages.libssl1.1' has too many parts; quote the name: packages.\"libssl1.1\"",
        ),
        ("packages.-rf", "'-rf' is not a package name"),
        ('file_digests."etc/x"', "'etc/x' is not a clean absolute path"),
        ('file_digests."/etc/../x"', "'/etc/../x' is not a clean absolute path"),
        ('file_digests."/a//b"', "'/a//b' is not a clean absolute path"),
        ("tpm_pcrs.24", "'24' is not a register of a TPM"),
        ("tpm_pcrs.07", "'07' is not a register of a TPM"),
        ('file_digests."/a\\u0000"', "'/a\\x00' is not a clean absolute path"),
        ("", "'' is not a path; quote names with other characters"),
        ("os.", "'os.' is not a path; quote names with other characters"),
        ("os id", "'os id' is not a path; quote names with other characters"),
        ("x" * 2000, "the path is too long"),
    ],
)
def test_a_wrong_path_is_explained(path: str, message: str) -> None:
    with pytest.raises(FactPathError) as error:
        resolve(path)
    assert str(error.value) == message


def test_an_unknown_field_names_the_known_ones() -> None:
    with pytest.raises(FactPathError) as error:
        resolve("tpm.x")
    assert error.value.expected == "one of present, version"
