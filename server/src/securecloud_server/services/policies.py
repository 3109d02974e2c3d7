"""Policies: versioned text, compiled before it is stored."""

from collections.abc import Mapping, Sequence
from typing import Any

from securecloud_server.domain.errors import Conflict
from securecloud_server.domain.names import name_errors, require
from securecloud_server.domain.policy import Policy, compile_policy
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.preconditions import ALWAYS, Precondition
from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.domain.records import Actor, PolicyText
from securecloud_server.services.admin import Ports, Slice, found, log, read_page
from securecloud_server.services.exchange_situation import DEFAULT_POLICY


def tag(policy: PolicyText) -> str:
    """Return the entity tag of a policy."""
    return f"{policy.version}-{policy.digest[:16]}"


class PolicyService:
    """Reads and edits policies."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def get(self, actor: Actor, name: str) -> PolicyText:
        """Return the current version."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        with self._ports.database.read() as tx:
            return found(tx.policies.get(name), "policy", name)

    def versions(self, actor: Actor, name: str) -> Sequence[PolicyText]:
        """Return every version, newest first."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        with self._ports.database.read() as tx:
            found(tx.policies.get(name), "policy", name)
            return tx.policies.versions(name)

    def page(self, actor: Actor, part: Slice) -> Sequence[PolicyText]:
        """Return policies by name."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        return read_page(self._ports, lambda tx: tx.policies.page(part.after, part.limit, {}))

    def put(
        self,
        actor: Actor,
        name: str,
        text: Mapping[str, Any],
        precondition: Precondition = ALWAYS,
    ) -> tuple[PolicyText, bool]:
        """Create or replace; return the policy and whether it is new. The same text is no change.

        Raises Invalid with every problem of the text.
        """
        authorize(actor, Privilege.EDIT_CONFIGURATION)
        require(name_errors("name", name))
        policy = compile_policy(text)
        return self._ports.database.write(
            lambda tx: self._put(tx, actor, name, policy, precondition)
        )

    def _put(
        self,
        tx: Transaction,
        actor: Actor,
        name: str,
        policy: Policy,
        precondition: Precondition,
    ) -> tuple[PolicyText, bool]:
        known, now = tx.policies.get(name), self._ports.now()
        precondition.check(tag(known) if known else None)
        if known is not None and known.digest == policy.digest:
            return known, False
        record = PolicyText(
            name=name,
            version=known.version + 1 if known else 1,
            digest=policy.digest,
            text=policy.normalised,
            created_at=known.created_at if known else now,
            updated_at=now,
            updated_by=str(actor),
        )
        if known is None:
            tx.policies.add(record)
        else:
            tx.policies.replace(record)
        action = "policy.updated" if known else "policy.created"
        facts = {"version": record.version, "digest": record.digest}
        log(tx, actor, action, f"policy:{name}", facts)
        if policy.force:
            log(tx, actor, "policy.forced", f"policy:{name}", facts)
        return record, known is None

    def delete(self, actor: Actor, name: str, precondition: Precondition = ALWAYS) -> None:
        """Remove a policy that nothing uses; the default one stays."""
        authorize(actor, Privilege.EDIT_CONFIGURATION)

        def work(tx: Transaction) -> None:
            known = found(tx.policies.get(name), "policy", name)
            precondition.check(tag(known))
            if name == DEFAULT_POLICY:
                raise Conflict("the default policy cannot be deleted")
            users = tx.policies.users(name)
            if users:
                raise Conflict(f"policy {name!r} is used by {', '.join(users[:10])}")
            tx.policies.delete(name)
            log(tx, actor, "policy.deleted", f"policy:{name}", {"version": known.version})

        self._ports.database.write(work)

    def ensure_default(self, actor: Actor) -> bool:
        """Create the default policy (no rules: manual) where missing; return whether it did."""
        with self._ports.database.read() as tx:
            if tx.policies.get(DEFAULT_POLICY) is not None:
                return False
        text = {"description": "Catches every device without a policy of its own; manual."}
        return self.put(actor, DEFAULT_POLICY, text)[1]
