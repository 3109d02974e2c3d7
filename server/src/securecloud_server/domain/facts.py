"""The catalogue of facts that a policy may ask for: names, fields, types, units, suppliers."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class FieldType(StrEnum):
    """The type of a field; it decides which operators fit."""

    STRING = "string"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    VERSION = "version"
    IP = "ip"
    TIME = "time"
    STRING_LIST = "string_list"
    SERVICES = "services"
    MAP = "map"


@dataclass(frozen=True, slots=True)
class Field:
    """One value inside a fact.

    ``choices`` lists all values of a closed set; ``values`` is the type behind each key of a map;
    ``nullable`` fields may be null on a healthy machine; ``private`` values are never shown.
    """

    type: FieldType
    description: str
    unit: str | None = None
    nullable: bool = False
    choices: tuple[str, ...] = ()
    values: FieldType | None = None
    private: bool = False


@dataclass(frozen=True, slots=True)
class FactSpec:
    """A fact: either one ``field`` of its own or an object of named ``fields``."""

    name: str
    description: str
    field: Field | None = None
    fields: Mapping[str, Field] = dataclasses.field(default_factory=dict)
    supplied_by_server: bool = False

    @property
    def default_provenance(self) -> str:
        """Return the provenance of the fact unless something stronger vouches for it."""
        return "observed" if self.supplied_by_server else "claimed"


WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _text(description: str, *choices: str, nullable: bool = False) -> Field:
    return Field(FieldType.STRING, description, nullable=nullable, choices=choices)


def _count(description: str, unit: str) -> Field:
    return Field(FieldType.INTEGER, description, unit=unit)


def _flag(description: str) -> Field:
    return Field(FieldType.BOOLEAN, description)


def _version(description: str, *, nullable: bool = False) -> Field:
    return Field(FieldType.VERSION, description, nullable=nullable)


_FACTS = (
    FactSpec("host_name", "The machine's own name", field=_text("host name")),
    FactSpec(
        "location",
        "Where the machine runs",
        fields={
            "provider": _text("name of the provider plugin", nullable=True),
            "region": _text("region", nullable=True),
            "zone": _text("zone", nullable=True),
            "datacenter": _text("data centre or virtual data centre", nullable=True),
        },
    ),
    FactSpec(
        "os",
        "Guest operating system, from os-release",
        fields={
            "id": _text("identifier, such as debian"),
            "version_id": _version("release, such as 12"),
            "name": _text("name for people"),
        },
    ),
    FactSpec(
        "kernel",
        "The running kernel",
        fields={
            "release": _version("release, as uname -r"),
            "version": _text("build, as uname -v"),
            "machine": _text("architecture, such as x86_64"),
            "command_line_digest": _text("digest of the kernel command line"),
        },
    ),
    FactSpec(
        "patch_level",
        "How far the operating system is patched",
        fields={
            "pending_security_updates": _count("security updates not installed", "updates"),
            "days_since_update": _count("time since packages were last updated", "days"),
            "reboot_required": _flag("an installed update waits for a reboot"),
        },
    ),
    FactSpec(
        "anti_malware",
        "The anti-malware product",
        fields={
            "product": _text("product name"),
            "engine_version": _version("engine"),
            "pattern_version": _version("pattern file"),
            "pattern_age_hours": _count("age of the pattern file", "hours"),
            "running": _flag("the engine runs"),
        },
    ),
    FactSpec(
        "network_services",
        "Sockets on which the machine listens, loopback included",
        field=Field(FieldType.SERVICES, "list of {protocol, address, port, process, unit}"),
    ),
    FactSpec(
        "enabled_units",
        "systemd units that are enabled",
        field=Field(FieldType.STRING_LIST, "unit names"),
    ),
    FactSpec(
        "packages",
        "Installed packages and their versions",
        field=Field(FieldType.MAP, "version by package name", values=FieldType.VERSION),
    ),
    FactSpec(
        "file_digests",
        "SHA-256 digests of the files that the policy names",
        field=Field(FieldType.MAP, '"sha256:<hex>" by absolute path', values=FieldType.STRING),
    ),
    FactSpec(
        "users",
        "Users with a login shell",
        field=Field(FieldType.STRING_LIST, "login names"),
    ),
    FactSpec(
        "mandatory_access_control",
        "State of SELinux and AppArmor",
        fields={
            "selinux": _text("SELinux", "enforcing", "permissive", "disabled", "absent"),
            "apparmor": _text("AppArmor", "enforcing", "disabled", "absent"),
        },
    ),
    FactSpec(
        "secure_boot",
        "UEFI Secure Boot",
        fields={
            "supported": _flag("the firmware can do it"),
            "enabled": _flag("it is switched on"),
        },
    ),
    FactSpec(
        "tpm",
        "Trusted Platform Module",
        fields={
            "present": _flag("there is one"),
            "version": _version("TPM specification, such as 2.0", nullable=True),
        },
    ),
    FactSpec(
        "tpm_pcrs",
        "Platform configuration registers of the TPM, SHA-256 bank",
        field=Field(FieldType.MAP, '"sha256:<hex>" by register, 0 to 23', values=FieldType.STRING),
    ),
    FactSpec(
        "instance",
        "Identity that the platform gave to the machine",
        fields={
            "id": _text("instance identifier", nullable=True),
            "user_data_digest": _text('"sha256:<hex>" of the user data', nullable=True),
            "user_data": Field(
                FieldType.STRING,
                "the user data itself; it may hold secrets, so results do not show it",
                nullable=True,
                private=True,
            ),
        },
    ),
    FactSpec(
        "boot",
        "The current boot",
        fields={
            "boot_id": _text("identifier of this boot"),
            "uptime_seconds": _count("time since boot", "seconds"),
        },
    ),
    FactSpec(
        "device",
        "The encrypted device that is asked for, as registered",
        fields={
            "name": _text("device name"),
            "group": _text("device group", nullable=True),
            "access": _text("access type", "read-only", "read-write"),
            "mount_point": _text("absolute path", nullable=True),
            "filesystem": _text("file system"),
        },
        supplied_by_server=True,
    ),
    FactSpec(
        "request",
        "The key request itself, as the server sees it",
        fields={
            "source_ip": Field(FieldType.IP, "address the request came from"),
            "time": Field(FieldType.TIME, "time of the request, RFC 3339"),
            "weekday": _text("day of the week in UTC", *WEEKDAYS),
            "first_seen_hours": _count("time since the instance was first seen", "hours"),
            "clock_skew_seconds": _count("agent's clock minus server's clock", "seconds"),
        },
        supplied_by_server=True,
    ),
)

CATALOGUE: Mapping[str, FactSpec] = MappingProxyType({spec.name: spec for spec in _FACTS})
