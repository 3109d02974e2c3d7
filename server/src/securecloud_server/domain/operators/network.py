"""Operators of addresses and of listening services."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

from securecloud_server.domain.fact_paths import FieldPath
from securecloud_server.domain.operators.condition import Builder, Condition, Outcome, listed
from securecloud_server.domain.operators.values import read_each
from securecloud_server.domain.policy_errors import Place, shown

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

_ADDRESS_WANTED = "not provided: expected an IP address"
_SERVICES_WANTED = "not provided: expected a list of services"
_MAPPED = IPv6Network("::ffff:0:0/96")
_MAPPED_BITS = 96
_ADDRESS_LIMIT = 64
_PORT = re.compile(r"(tcp|udp)/([1-9][0-9]{0,4})")
HIGHEST_PORT = 65535
PROTOCOLS = ("tcp", "udp")


def parse_address(value: Any) -> _Address | None:
    """Return an address, IPv4-mapped IPv6 as IPv4 and without a zone index; None when it is not."""
    if type(value) is not str or len(value) > _ADDRESS_LIMIT:
        return None
    return _parse_address(value)


@lru_cache(maxsize=1024)
def _parse_address(value: str) -> _Address | None:
    try:
        address = ip_address(value.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _read_network(value: Any, place: Place) -> _Network | None:
    if not isinstance(value, str):
        place.refuse_value("a network in CIDR notation in quotes, such as '10.0.0.0/8'", value)
        return None
    try:
        return _unmapped(ip_network(value))
    except ValueError as error:
        place.refuse(_network_hint(value), f"{shown(value)} is not a network: {error}")
        return None


def _unmapped(network: _Network) -> _Network:
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        low = int(network.network_address) & 0xFFFFFFFF
        return IPv4Network((low, network.prefixlen - _MAPPED_BITS))
    return network


def _network_hint(value: str) -> str:
    try:
        return f"a network without host bits, such as {ip_network(value, strict=False)}"
    except ValueError:
        return "a network in CIDR notation, such as 10.0.0.0/8 or 2001:db8::/32"


def _networks(name: str, *, inside: bool) -> Builder:
    def build(_path: FieldPath, value: Any, place: Place) -> Condition | None:
        networks: list[_Network] | None = read_each(value, place, "networks", _read_network)
        if networks is None:
            return None
        ranges = [(n.version, int(n.network_address), int(n.netmask)) for n in networks]
        texts = [str(network) for network in networks]

        def test(v: Any) -> Outcome:
            address = parse_address(v)
            if address is None:
                return _ADDRESS_WANTED
            version, number = address.version, int(address)
            found = any(version == v and number & mask == net for v, net, mask in ranges)
            return found is inside

        return Condition(texts, f"{name} {listed(texts)}", test, lambda v: f"is {shown(v)}")

    return build


def ports_of(value: Any) -> list[str] | None:
    """Return the ports of a list of services as ``tcp/443``, or None when it is malformed."""
    if type(value) is not list:
        return None
    ports = []
    for service in value:
        if type(service) is not dict:
            return None
        protocol, port = service.get("protocol"), service.get("port")
        if type(port) is not int or not 0 < port <= HIGHEST_PORT:
            return None
        if type(protocol) is not str or protocol not in PROTOCOLS:
            return None
        ports.append(f"{protocol}/{port}")
    return ports


def _read_port(value: Any, place: Place) -> str | None:
    found = _PORT.fullmatch(value) if isinstance(value, str) else None
    if found is None or int(found.group(2)) > HIGHEST_PORT:
        place.refuse_value("a port such as tcp/443 or udp/53", value)
        return None
    return found.group()


def _ports(
    name: str, offending: Callable[[frozenset[str], list[str]], list[str]], *, may_be_empty: bool
) -> Builder:
    def build(_path: FieldPath, value: Any, place: Place) -> Condition | None:
        texts = read_each(value, place, "ports", _read_port, may_be_empty=may_be_empty)
        if texts is None:
            return None
        named = frozenset(texts)

        def test(v: Any) -> Outcome:
            ports = ports_of(v)
            return _SERVICES_WANTED if ports is None else not offending(named, ports)

        def why(v: Any) -> str:
            found = offending(named, ports_of(v) or [])
            return f"not allowed: {listed(sorted(set(found)))}" if found else "all are allowed"

        return Condition(texts, f"{name} {listed(texts)}", test, why)

    return build


IP: dict[str, Builder] = {
    "in_networks": _networks("in_networks", inside=True),
    "not_in_networks": _networks("not_in_networks", inside=False),
}
SERVICES: dict[str, Builder] = {
    "ports_only": _ports(
        "ports_only",
        lambda named, ports: [port for port in ports if port not in named],
        may_be_empty=True,
    ),
    "ports_exclude": _ports(
        "ports_exclude",
        lambda named, ports: [port for port in ports if port in named],
        may_be_empty=False,
    ),
}
