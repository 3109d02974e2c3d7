"""Which LUKS2 header a device is expected to have: learnt at first use, compared at each release.

Only the Ack of a machine that has the volume in use changes what is expected, and only while
nothing is known yet or the machine may be changing key slots: from the release that gave it the
successor of its key until it says that the change is over. Meanwhile the volume key counts, which
stays the same, so that no interruption locks the machine out. See docs/adr/0017-header-copies.md.
"""

from dataclasses import replace

from securecloud_protocol import messages as wire

from securecloud_server.domain.records import DeviceState


def expected(state: DeviceState) -> wire.LuksHeader | None:
    """Return the header that the device is expected to have; None before its first use."""
    if state.header is None:
        return None
    return wire.LuksHeader(state.header, state.volume_key, state.header_changing)


def fits(state: DeviceState, found: wire.LuksHeader | None) -> bool:
    """Say whether a key may go where this header is.

    A machine that cannot see its disk yet compares by itself when it does: it is told what to
    expect with the key.
    """
    known = expected(state)
    return known is None or found is None or known.allows(found)


def refused(state: DeviceState, found: wire.LuksHeader) -> DeviceState:
    """Return the state with the header that was refused last, for a person to accept."""
    return replace(state, header_refused=found.digest, volume_key_refused=found.volume_key)


def changing(state: DeviceState) -> DeviceState:
    """Return the state of a device whose machine is given what it needs to change key slots."""
    return replace(state, header_changing=True)


def in_use(state: DeviceState, found: wire.LuksHeader, *, released: bool) -> DeviceState:
    """Return the state after the machine said that the volume is in use with this header.

    The first one is taken only of a machine that was just given the key.
    """
    known = expected(state)
    if known is not None and not known.allows(found):
        return refused(state, found)
    if found.volume_key is None or (known is None and not released):
        return state
    return replace(
        state,
        header=found.digest,
        volume_key=found.volume_key,
        # Its own word ends a change, and begins none.
        header_changing=found.changing and (known is None or state.header_changing),
        header_refused=None,
        volume_key_refused=None,
    )


def lacks_copy(state: DeviceState) -> bool:
    """Say whether a copy of the expected header is wanted; not of one that is about to change."""
    return (
        state.header is not None and not state.header_changing and state.header_kept != state.header
    )


def kept(state: DeviceState, digest: bytes) -> DeviceState:
    """Return the state when there is a copy of the header with this digest."""
    return replace(state, header_kept=digest)
