"""iSCSI places: whatever is accepted can be told to an agent, and has a path of its own."""

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from securecloud_protocol import messages as wire
from securecloud_server.domain.iscsi import path_of
from securecloud_server.domain.volumes import normalised, source_of, volume_errors

TARGET = "iqn.2026-01.org.example:db"

addresses = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(lambda address: f"[{address}]"),
)
portals = addresses | st.builds("{}:{}".format, addresses, st.integers(1, 65535))
names = st.from_regex(r"iqn\.20[0-9]{2}-0[1-9]\.[0-9A-Za-z][0-9A-Za-z.:-]{0,210}", fullmatch=True)
codes = st.from_regex(r"(eui|naa)\.[0-9A-Fa-f]{16}", fullmatch=True)
places = st.fixed_dictionaries(
    {"portal": portals, "target": names | codes, "lun": st.integers(0, 255)}
)
strange = st.fixed_dictionaries(
    {
        "portal": portals | st.text("0123456789abcdef.:[]-", max_size=30),
        "target": names | codes | st.text(max_size=300) | st.text("iqneu.-:012", max_size=40),
        "lun": st.integers(-1, 300),
    }
)


@given(strange)
def test_what_is_accepted_can_be_told_to_an_agent(place: dict[str, object]) -> None:
    volume = normalised({"iscsi": place})
    if volume_errors(volume):
        return
    told = wire.IscsiTarget(**volume["iscsi"])
    assert wire.decode(wire.ISCSI_TARGET, wire.encode(wire.ISCSI_TARGET, told)) == told
    source = source_of(volume)
    sent = wire.Volume(source, told, "ext4", None, (), False, "never", None)
    assert wire.decode(wire.VOLUME, wire.encode(wire.VOLUME, sent)) == sent
    address = told.portal.rpartition(":")[0].strip("[]")
    known = IPv6Address(address) if ":" in address else IPv4Address(address)
    assert str(known) == address
    assert source.startswith(f"/dev/disk/by-path/ip-{address}:")


@given(places, places)
def test_two_places_have_two_paths(one: dict[str, object], other: dict[str, object]) -> None:
    first, second = (normalised({"iscsi": place}) for place in (one, other))
    assume(not volume_errors(first))
    assume(not volume_errors(second))
    assert (first == second) == (source_of(first) == source_of(second))


@pytest.mark.parametrize(
    ("portal", "path"),
    [
        (
            "10.0.0.5:3260",
            "/dev/disk/by-path/ip-10.0.0.5:3260-iscsi-iqn.2026-01.org.example:db-lun-0",
        ),
        ("[::1]:860", "/dev/disk/by-path/ip-::1:860-iscsi-iqn.2026-01.org.example:db-lun-0"),
    ],
)
def test_paths_are_those_that_udev_makes(portal: str, path: str) -> None:
    assert path_of({"portal": portal, "target": TARGET, "lun": 0}) == path
