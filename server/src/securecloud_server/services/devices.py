"""Devices: volumes of agents, each with a key of its own from the moment it is registered."""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from securecloud_server.domain import requests as life
from securecloud_server.domain.errors import Conflict, FieldError
from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.names import is_name, name_errors, reason_errors, require
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.preconditions import ALWAYS, Precondition
from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.domain.records import Actor, Device, DeviceState, Key
from securecloud_server.domain.volume_states import IN_USE, OPEN, RELEASED, SUSPENDED
from securecloud_server.domain.volumes import normalised, source_of, volume_errors
from securecloud_server.services.admin import Ports, Slice, found, log, read_page
from securecloud_server.services.device_groups import policy_errors
from securecloud_server.services.exchange_situation import DEFAULT_POLICY


@dataclass(frozen=True, slots=True)
class DeviceText:
    """What an administrator says of a device."""

    agent: str
    volume: Mapping[str, Any]
    group: str | None = None
    policy: str | None = None
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class DeviceReport:
    """A device with what the server derives or has learnt."""

    device: Device
    state: DeviceState
    key: Key | None
    effective_policy: str


HEADER_AREA = 16 * 1024 * 1024
"""What LUKS2 takes up before the data, unless told otherwise; shorter files are refused."""

_DIGEST = re.compile("[0-9a-f]{64}")
_WHY_IN_USE = {
    RELEASED: "its key went to agent {!r}, which has not said yet what became of it",
    OPEN: "it is open on agent {!r}",
    SUSPENDED: "programs on agent {!r} wait for it: it is suspended",
}


def tag(device: Device) -> str:
    """Return the entity tag of a device: what exchanges teach the server is no part of it."""
    return f"{device.revision}-{device.device_id[:8]}"


class DeviceService:
    """Reads and edits devices."""

    def __init__(self, ports: Ports, keystores: Keystores) -> None:
        self._ports = ports
        self._keystores = keystores

    def get(self, actor: Actor, name: str) -> DeviceReport:
        """Return the device."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        with self._ports.database.read() as tx:
            return _reports(tx, [found(tx.devices.get(name), "device", name)])[0]

    def page(
        self, actor: Actor, part: Slice, filters: Mapping[str, str | None]
    ) -> Sequence[DeviceReport]:
        """Return devices by name; filters `agent`, `group` and `policy`."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        return read_page(
            self._ports,
            lambda tx: _reports(tx, tx.devices.page(part.after, part.limit, filters)),
        )

    def put(
        self, actor: Actor, name: str, text: DeviceText, precondition: Precondition = ALWAYS
    ) -> tuple[DeviceReport, bool]:
        """Create or replace; return the device and whether it is new. A new one gets its key."""
        authorize(actor, Privilege.EDIT_CONFIGURATION)
        text = replace(text, volume=normalised(text.volume))
        require(name_errors("name", name), volume_errors(text.volume))
        key = self._key_for_new(name)
        return self._ports.database.write(
            lambda tx: self._put(tx, actor, name, text, precondition, key)
        )

    def _key_for_new(self, name: str) -> tuple[str, bytes] | None:
        """Make the key of a device that does not exist yet; the keystore may be far away."""
        with self._ports.database.read() as tx:
            if tx.devices.get(name) is not None:
                return None
        device_id = str(uuid.UUID(bytes=self._ports.random(16), version=4))
        return device_id, self._keystores.active.create(device_id, 1)

    def _put(
        self,
        tx: Transaction,
        actor: Actor,
        name: str,
        text: DeviceText,
        precondition: Precondition,
        key: tuple[str, bytes] | None,
    ) -> tuple[DeviceReport, bool]:
        known = tx.devices.get(name)
        precondition.check(tag(known) if known else None)
        require(_reference_errors(tx, text), _clash_errors(tx, name, text))
        if known is not None:
            return self._replace(tx, actor, known, text), False
        if key is None:
            raise Conflict(f"device {name!r} was deleted at this very moment; try again")
        return self._add(tx, actor, name, text, key), True

    def _add(
        self,
        tx: Transaction,
        actor: Actor,
        name: str,
        text: DeviceText,
        key: tuple[str, bytes],
    ) -> DeviceReport:
        now, (device_id, reference) = self._ports.now(), key
        device = Device(
            name=name,
            device_id=device_id,
            agent=text.agent,
            group=text.group,
            policy=text.policy,
            enabled=text.enabled,
            volume=text.volume,
            created_at=now,
            updated_at=now,
        )
        tx.devices.add(device)
        keystore = self._keystores.active.name
        tx.keys.put(Key(device_id, 1, "pre_active", keystore, reference, now))
        details = {"device_id": device_id, "agent": text.agent, "key_version": 1}
        log(tx, actor, "device.created", f"device:{name}", details)
        return _reports(tx, [device])[0]

    def _replace(
        self, tx: Transaction, actor: Actor, known: Device, text: DeviceText
    ) -> DeviceReport:
        if text.agent != known.agent:
            raise Conflict(
                f"device {known.name!r} belongs to agent {known.agent!r}; to move it, delete it "
                "and register it again"
            )
        # What an earlier version stored lacks later fields, and lacking them is no change.
        known = replace(known, volume=normalised(known.volume))
        device = replace(
            known,
            group=text.group,
            policy=text.policy,
            enabled=text.enabled,
            volume=text.volume,
        )
        if device != known:
            device = replace(device, updated_at=self._ports.now(), revision=known.revision + 1)
            tx.devices.replace(device)
            log(tx, actor, "device.updated", f"device:{known.name}", _changes(known, device))
        return _reports(tx, [device])[0]

    def delete(
        self, actor: Actor, name: str, precondition: Precondition = ALWAYS, *, force: bool = False
    ) -> None:
        """Remove a device and destroy its key for good.

        Only with `force` while its machine may need the key: what is open there is then closed at
        its next exchange, and nothing ever opens it again.
        """
        authorize(actor, Privilege.EDIT_CONFIGURATION)

        def work(tx: Transaction) -> Sequence[Key]:
            known = found(tx.devices.get(name), "device", name)
            precondition.check(tag(known))
            state = tx.devices.states([known.device_id])[known.device_id].volume_state
            if state in IN_USE and not force:
                raise Conflict(_why_not_delete(known, state))
            keys = tx.keys.versions([known.device_id])
            self._close_request(tx, actor, known)
            tx.devices.delete(name)
            details = {"device_id": known.device_id, "volume_state": state, "force": force}
            log(tx, actor, "device.deleted", f"device:{name}", details)
            return keys

        self._keystores.destroy(self._ports.database.write(work))

    def _close_request(self, tx: Transaction, actor: Actor, device: Device) -> None:
        """Revoke what nobody needs to decide or can use any more."""
        request = tx.requests.open_of([device.device_id]).get(device.device_id)
        if request is not None and request.state in life.OPEN:
            reason, now = "the device was deleted", self._ports.now()
            tx.requests.replace(life.move(request, life.REVOKED, str(actor), reason, now))
            details = {"request": request.request_id}
            log(tx, actor, "key_request.revoked", f"device:{device.name}", details, reason)

    def clear_quarantine(self, actor: Actor, name: str, reason: str) -> DeviceReport:
        """Let a quarantined device start a new lineage with its next release."""
        authorize(actor, Privilege.MANAGE_KEYS)
        require(reason_errors(reason))

        def work(tx: Transaction) -> DeviceReport:
            device = found(tx.devices.get(name), "device", name)
            state = tx.devices.states([device.device_id])[device.device_id]
            if not state.quarantined:
                raise Conflict(f"device {name!r} is not quarantined")
            tx.devices.put_state(replace(state, quarantined=False, lineage=None, lineage_next=None))
            log(tx, actor, "device.quarantine_cleared", f"device:{name}", {}, reason)
            return _reports(tx, [device])[0]

        return self._ports.database.write(work)

    def header(self, actor: Actor, name: str, *, stale: bool) -> bytes:
        """Return the copy of the device's LUKS header, as `cryptsetup luksHeaderRestore` takes it:
        with zeros up to the end of the area that cryptsetup reserves.

        Only with `stale` one of a header that the device had before.
        """
        authorize(actor, Privilege.MANAGE_KEYS)

        def work(tx: Transaction) -> bytes:
            device = found(tx.devices.get(name), "device", name)
            copy = found(tx.header_copies.get(device.device_id), "copy of the LUKS header of", name)
            state = tx.devices.states([device.device_id])[device.device_id]
            if not stale and (state.header_changing or copy.digest != state.header):
                raise Conflict(
                    f"the copy is of a header that device {name!r} had before, or that is being"
                    " changed: it may open with no key that is released; ?stale=true gives it"
                )
            log(tx, actor, "device.header_read", f"device:{name}", {"header": copy.digest.hex()})
            return copy.header

        return self._ports.database.write(work).ljust(HEADER_AREA, b"\0")

    def accept_header(self, actor: Actor, name: str, digest: str, reason: str) -> DeviceReport:
        """Expect from now on the LUKS header that was refused last, whose `digest` is given."""
        authorize(actor, Privilege.MANAGE_KEYS)
        require(_digest_errors(digest), reason_errors(reason))

        def work(tx: Transaction) -> DeviceReport:
            device = found(tx.devices.get(name), "device", name)
            state = tx.devices.states([device.device_id])[device.device_id]
            _require_acceptable(device, state, digest)
            tx.devices.put_state(
                replace(
                    state,
                    header=state.header_refused,
                    volume_key=state.volume_key_refused,
                    header_refused=None,
                    volume_key_refused=None,
                )
            )
            details = {"header": digest, "before": state.header.hex() if state.header else None}
            log(tx, actor, "device.header_accepted", f"device:{name}", details, reason)
            return _reports(tx, [device])[0]

        return self._ports.database.write(work)


def _digest_errors(digest: str) -> list[FieldError]:
    if _DIGEST.fullmatch(digest):
        return []
    expected = "64 hexadecimal digits in lower case"
    return [FieldError("digest", expected, f"expected {expected}")]


def _require_acceptable(device: Device, state: DeviceState, digest: str) -> None:
    if state.header_refused is None:
        raise Conflict(f"no LUKS header of device {device.name!r} was refused")
    if state.header_refused.hex() != digest:
        raise Conflict(
            f"the LUKS header of device {device.name!r} that was refused last is"
            f" {state.header_refused.hex()}"
        )
    if state.volume_key_refused is None:
        raise Conflict(
            f"the LUKS header on the disk of device {device.name!r} is damaged, or none that its"
            " agent opens. Repair it first; the machine shows another one then"
        )


def _reports(tx: Transaction, devices: Sequence[Device]) -> list[DeviceReport]:
    ids = [device.device_id for device in devices]
    states, lives = tx.devices.states(ids), tx.keys.lives(ids)
    groups = {name: tx.groups.get(name) for name in {d.group for d in devices if d.group}}

    def effective(device: Device) -> str:
        group = groups.get(device.group or "")
        return device.policy or (group.policy if group else None) or DEFAULT_POLICY

    return [
        DeviceReport(
            d,
            states[d.device_id],
            lives[d.device_id].current if d.device_id in lives else None,
            effective(d),
        )
        for d in devices
    ]


def _why_not_delete(device: Device, state: str) -> str:
    return (
        f"device {device.name!r} is in use: {_WHY_IN_USE[state].format(device.agent)}. Without its"
        " key what is on it is lost. Revoke the key and wait until the machine has closed it, or"
        " delete it with force=true"
    )


def _reference_errors(tx: Transaction, text: DeviceText) -> list[FieldError]:
    errors = policy_errors(tx, text.policy)
    agent = tx.agents.get(text.agent) if is_name(text.agent) else None
    if agent is None or agent.state != "active":
        expected = "the name of an enrolled agent"
        errors.append(FieldError("agent", expected, f"there is no active agent {text.agent!r}"))
    if text.group is not None and not (is_name(text.group) and tx.groups.get(text.group)):
        expected = "the name of a device group, or null"
        errors.append(FieldError("group", expected, f"there is no device group {text.group!r}"))
    return errors


def _clash_errors(tx: Transaction, name: str, text: DeviceText) -> list[FieldError]:
    """Return errors for a disk or mount point that another device of this agent has."""
    if not is_name(text.agent):
        return []
    errors = []
    mine = _places(text.volume)
    for other in tx.devices.of_agent(text.agent):
        theirs = set(_places(other.volume).values())
        for field, value in mine.items():
            if other.name != name and value in theirs:
                message = f"device {other.name!r} of this agent has the same"
                errors.append(FieldError(f"volume.{field}", "not used by another device", message))
    return errors


def _places(volume: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return what only one device may have, by the field that says it."""
    places = {"iscsi" if volume.get("iscsi") else "source": ("disk", source_of(volume))}
    if volume.get("mount_point") is not None:
        places["mount_point"] = ("mount", volume["mount_point"])
    return places


def _changes(old: Device, new: Device) -> dict[str, Any]:
    names = ("group", "policy", "enabled", "volume")
    return {
        name: {"before": getattr(old, name), "after": getattr(new, name)}
        for name in names
        if getattr(old, name) != getattr(new, name)
    }
