"""Whether a fact's value has the shape of the catalogue, for expressions that see all of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from securecloud_server.domain.facts import FactSpec, Field, FieldType
from securecloud_server.domain.operators.network import parse_address, ports_of
from securecloud_server.domain.operators.times import parse_time
from securecloud_server.domain.operators.values import is_integer, is_strings

_OPTIONAL_TEXT = (str, type(None))


def has_shape(spec: FactSpec, value: Any) -> bool:
    """Tell whether a value has the types that the catalogue promises.

    Fields may be null or missing here: whether that matters depends on the rule. Unknown fields
    are allowed, so that an agent may be newer than the server.
    """
    if spec.field is not None:
        return _CHECKS[spec.field.type](value) and _is_choice(spec.field, value)
    return type(value) is dict and all(
        (found := value.get(key)) is None
        or (_CHECKS[field.type](found) and _is_choice(field, found))
        for key, field in spec.fields.items()
    )


def _is_choice(field: Field, value: Any) -> bool:
    return not field.choices or value in field.choices


def _is_string(value: Any) -> bool:
    return type(value) is str


def _are_services(value: Any) -> bool:
    return ports_of(value) is not None and all(
        type(service.get("address")) is str
        and type(service.get("process")) in _OPTIONAL_TEXT
        and type(service.get("unit")) in _OPTIONAL_TEXT
        for service in value
    )


def _is_map(value: Any) -> bool:
    return type(value) is dict and set(map(type, value.values())) <= {str}


_CHECKS: Mapping[FieldType, Callable[[Any], bool]] = MappingProxyType(
    {
        FieldType.STRING: _is_string,
        FieldType.VERSION: _is_string,
        FieldType.INTEGER: is_integer,
        FieldType.BOOLEAN: lambda value: type(value) is bool,
        FieldType.IP: lambda value: parse_address(value) is not None,
        FieldType.TIME: lambda value: parse_time(value) is not None,
        FieldType.STRING_LIST: is_strings,
        FieldType.SERVICES: _are_services,
        FieldType.MAP: _is_map,
    }
)
