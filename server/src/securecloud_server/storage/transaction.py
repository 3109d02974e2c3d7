"""One unit of work over one database transaction."""

from securecloud_server.domain.ports import Clock
from securecloud_server.storage import stores
from securecloud_server.storage.audit import Signer, SqlAuditLog
from securecloud_server.storage.runner import Runner


class SqlTransaction:
    """`ports.Transaction`: every store, on one cursor."""

    def __init__(self, runner: Runner, clock: Clock, sign: Signer) -> None:
        self.agents = stores.SqlAgents(runner)
        self.groups = stores.groups(runner)
        self.policies = stores.SqlPolicies(runner)
        self.devices = stores.SqlDevices(runner)
        self.keys = stores.SqlKeys(runner)
        self.requests = stores.SqlKeyRequests(runner)
        self.sessions = stores.SqlSessions(runner)
        self.api_tokens = stores.api_tokens(runner)
        self.enrolment_tokens = stores.enrolment_tokens(runner)
        self.audit = SqlAuditLog(runner, clock, sign)
        self.runner = runner
