"""Agents: the machines that have enrolled."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from securecloud_server.domain.errors import Conflict
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.preconditions import ALWAYS, Precondition
from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.domain.records import Actor, Agent
from securecloud_server.services.admin import Ports, Slice, found, log, read_page


def tag(agent: Agent) -> str:
    """Return the entity tag of an agent."""
    return f"{agent.agent_id}-{agent.state}"


class AgentService:
    """Reads agents and retires them; only enrolment makes one."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def get(self, actor: Actor, name: str) -> Agent:
        """Return the agent."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        with self._ports.database.read() as tx:
            return found(tx.agents.get(name), "agent", name)

    def page(self, actor: Actor, part: Slice, filters: Mapping[str, str | None]) -> Sequence[Agent]:
        """Return agents by name; filter `state`."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        return read_page(self._ports, lambda tx: tx.agents.page(part.after, part.limit, filters))

    def retire(self, actor: Actor, name: str, precondition: Precondition = ALWAYS) -> None:
        """Take an agent without devices out of service; its name may then enrol anew."""
        authorize(actor, Privilege.EDIT_CONFIGURATION)

        def work(tx: Transaction) -> None:
            known = found(tx.agents.get(name), "agent", name)
            precondition.check(tag(known))
            devices = tx.devices.of_agent(name)
            if devices:
                names = ", ".join(device.name for device in devices[:10])
                raise Conflict(f"agent {name!r} still has the devices {names}")
            if known.state == "active":
                tx.agents.replace(replace(known, state="retired"))
                log(tx, actor, "agent.retired", f"agent:{name}", {"agent_id": known.agent_id})

        self._ports.database.write(work)
