"""Operators by type of field."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from securecloud_server.domain.facts import FieldType
from securecloud_server.domain.operators import network, scalars, sets, times
from securecloud_server.domain.operators.condition import Builder, Condition, Outcome

__all__ = ["OPERATORS", "Condition", "Outcome"]

OPERATORS: Mapping[FieldType, Mapping[str, Builder]] = MappingProxyType(
    {
        FieldType.STRING: scalars.STRING,
        FieldType.INTEGER: scalars.INTEGER,
        FieldType.BOOLEAN: scalars.BOOLEAN,
        FieldType.VERSION: scalars.VERSION,
        FieldType.IP: network.IP,
        FieldType.TIME: times.TIME,
        FieldType.STRING_LIST: sets.STRING_LIST,
        FieldType.SERVICES: network.SERVICES,
        FieldType.MAP: sets.MAP,
    }
)
