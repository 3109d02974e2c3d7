"""Device groups: devices that share a policy."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from securecloud_server.domain.errors import Conflict, FieldError
from securecloud_server.domain.names import is_name, line_errors, name_errors, require
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.preconditions import ALWAYS, Precondition
from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.domain.records import Actor, DeviceGroup
from securecloud_server.services.admin import Ports, Slice, found, log, read_page

_DESCRIPTION_MAX = 1000


@dataclass(frozen=True, slots=True)
class GroupText:
    """What an administrator says of a group."""

    description: str
    policy: str | None


def tag(group: DeviceGroup) -> str:
    """Return the entity tag of a group."""
    return f"{group.revision}-{group.created_at}"


def policy_errors(tx: Transaction, policy: str | None) -> list[FieldError]:
    """Return what is wrong with a reference to a policy."""
    if policy is None or (is_name(policy) and tx.policies.get(policy) is not None):
        return []
    return [FieldError("policy", "the name of a policy, or null", f"there is no policy {policy!r}")]


class DeviceGroupService:
    """Reads and edits device groups."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def get(self, actor: Actor, name: str) -> DeviceGroup:
        """Return the group."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        with self._ports.database.read() as tx:
            return found(tx.groups.get(name), "device group", name)

    def page(self, actor: Actor, part: Slice) -> Sequence[DeviceGroup]:
        """Return groups by name."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        return read_page(self._ports, lambda tx: tx.groups.page(part.after, part.limit, {}))

    def put(
        self, actor: Actor, name: str, text: GroupText, precondition: Precondition = ALWAYS
    ) -> tuple[DeviceGroup, bool]:
        """Create or replace; return the group and whether it is new."""
        authorize(actor, Privilege.EDIT_CONFIGURATION)
        require(
            name_errors("name", name),
            line_errors("description", text.description, 0, _DESCRIPTION_MAX),
        )
        return self._ports.database.write(lambda tx: self._put(tx, actor, name, text, precondition))

    def _put(
        self, tx: Transaction, actor: Actor, name: str, text: GroupText, precondition: Precondition
    ) -> tuple[DeviceGroup, bool]:
        known, now = tx.groups.get(name), self._ports.now()
        precondition.check(tag(known) if known else None)
        require(policy_errors(tx, text.policy))
        if known is None:
            group = DeviceGroup(name, text.description, text.policy, now, now)
            tx.groups.add(group)
        elif (known.description, known.policy) == (text.description, text.policy):
            return known, False
        else:
            group = replace(
                known,
                description=text.description,
                policy=text.policy,
                updated_at=now,
                revision=known.revision + 1,
            )
            tx.groups.replace(group)
        action = "device_group.updated" if known else "device_group.created"
        log(tx, actor, action, f"device_group:{name}", {"policy": text.policy})
        return group, known is None

    def delete(self, actor: Actor, name: str, precondition: Precondition = ALWAYS) -> None:
        """Remove a group without devices."""
        authorize(actor, Privilege.EDIT_CONFIGURATION)

        def work(tx: Transaction) -> None:
            known = found(tx.groups.get(name), "device group", name)
            precondition.check(tag(known))
            members = tx.devices.page(None, 1, {"group": name})
            if members:
                raise Conflict(f"device group {name!r} still holds device {members[0].name!r}")
            tx.groups.delete(name)
            log(tx, actor, "device_group.deleted", f"device_group:{name}", {})

        self._ports.database.write(work)
