"""One unit of work over one database transaction."""

from securecloud_server.domain import ports
from securecloud_server.domain.records import ApiToken, DeviceGroup, EnrolmentTokenRecord
from securecloud_server.storage import stores
from securecloud_server.storage.audit import OwnHeads, Signer, SqlAuditLog
from securecloud_server.storage.evidence import SqlEvidence
from securecloud_server.storage.exports import SqlKeyExports
from securecloud_server.storage.runner import Runner


class SqlTransaction:
    """`ports.Transaction`: every store, on one cursor.

    `log` is the audit log once more, with what only the unit of work may do to it.
    """

    def __init__(self, runner: Runner, clock: ports.Clock, sign: Signer, heads: OwnHeads) -> None:
        self.runner = runner
        self.log = SqlAuditLog(runner, clock, sign, heads)
        self.agents: ports.AgentStore = stores.SqlAgents(runner)
        self.checks: ports.CheckStore = stores.SqlChecks(runner)
        self.groups: ports.Store[DeviceGroup] = stores.groups(runner)
        self.policies: ports.PolicyStore = stores.SqlPolicies(runner)
        self.devices: ports.DeviceStore = stores.SqlDevices(runner)
        self.header_copies: ports.HeaderCopyStore = stores.SqlHeaderCopies(runner)
        self.keys: ports.KeyStoreRecords = stores.SqlKeys(runner)
        self.requests: ports.KeyRequestStore = stores.SqlKeyRequests(runner)
        self.exports: ports.KeyExportStore = SqlKeyExports(runner)
        self.evidence: ports.EvidenceStore = SqlEvidence(runner)
        self.sessions: ports.SessionStore = stores.SqlSessions(runner)
        self.api_tokens: ports.Store[ApiToken] = stores.api_tokens(runner)
        self.enrolment_tokens: ports.Store[EnrolmentTokenRecord] = stores.enrolment_tokens(runner)
        self.audit: ports.AuditLog = self.log
