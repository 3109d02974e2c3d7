"""Agents: the machines that have enrolled, and checks that are asked of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from securecloud_server.domain.errors import Conflict
from securecloud_server.domain.ports import Transaction
from securecloud_server.domain.preconditions import ALWAYS, Precondition
from securecloud_server.domain.privileges import Privilege, authorize
from securecloud_server.domain.records import Actor, Agent, Check
from securecloud_server.services.admin import Ports, Slice, found, log, read_page


@dataclass(frozen=True, slots=True)
class AgentReport:
    """An agent with the last check that was asked of it."""

    agent: Agent
    check: Check | None


def tag(agent: Agent) -> str:
    """Return the entity tag of an agent."""
    return f"{agent.agent_id}-{agent.state}"


class AgentService:
    """Reads agents, asks them for checks and retires them; only enrolment makes one."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports

    def get(self, actor: Actor, name: str) -> AgentReport:
        """Return the agent."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        with self._ports.database.read() as tx:
            return _reports(tx, [found(tx.agents.get(name), "agent", name)])[0]

    def page(
        self, actor: Actor, part: Slice, filters: Mapping[str, str | None]
    ) -> Sequence[AgentReport]:
        """Return agents by name; filter `state`."""
        authorize(actor, Privilege.READ_CONFIGURATION)
        return read_page(
            self._ports,
            lambda tx: _reports(tx, tx.agents.page(part.after, part.limit, filters)),
        )

    def check(self, actor: Actor, name: str) -> AgentReport:
        """Ask the agent for a check; it makes one at once if it waits at a server."""
        authorize(actor, Privilege.MANAGE_KEYS)

        def work(tx: Transaction) -> AgentReport:
            known = found(tx.agents.get(name), "agent", name)
            if known.state != "active":
                raise Conflict(f"agent {name!r} is {known.state}")
            details = {"agent_id": known.agent_id}
            log(tx, actor, "agent.check_requested", f"agent:{name}", details)
            check = Check(known.agent_id, tx.audit.size(), self._ports.now())
            tx.checks.put(check)
            return AgentReport(known, check)

        return self._ports.database.write(work)

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


def _reports(tx: Transaction, agents: Sequence[Agent]) -> list[AgentReport]:
    checks = tx.checks.of([agent.agent_id for agent in agents])
    return [AgentReport(agent, checks.get(agent.agent_id)) for agent in agents]
