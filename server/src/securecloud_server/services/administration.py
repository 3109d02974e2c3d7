"""All that administrators can do, in one hand: for the admin API and the command line."""

from dataclasses import dataclass

from securecloud_server.domain.keystores import Keystores
from securecloud_server.domain.ports import RecipientSealer
from securecloud_server.services.admin import Ports
from securecloud_server.services.agents import AgentService
from securecloud_server.services.api_tokens import ApiTokenService
from securecloud_server.services.audit import AuditService
from securecloud_server.services.device_groups import DeviceGroupService
from securecloud_server.services.devices import DeviceService
from securecloud_server.services.enrollment_tokens import EnrollmentTokenService
from securecloud_server.services.evidence import EvidenceService
from securecloud_server.services.key_exports import KeyExportService
from securecloud_server.services.key_requests import KeyRequestService
from securecloud_server.services.keys import KeyService
from securecloud_server.services.policies import PolicyService
from securecloud_server.services.policy_replay import PolicyReplay
from securecloud_server.services.refusals import RefusalLog


@dataclass(frozen=True, slots=True)
class Administration:
    """The administrative services over one set of ports; `fingerprint` names the server's key."""

    fingerprint: str
    policies: PolicyService
    policy_replay: PolicyReplay
    device_groups: DeviceGroupService
    devices: DeviceService
    evidence: EvidenceService
    agents: AgentService
    enrollment_tokens: EnrollmentTokenService
    key_requests: KeyRequestService
    keys: KeyService
    key_exports: KeyExportService
    api_tokens: ApiTokenService
    audit: AuditService
    refusals: RefusalLog


def administration(
    ports: Ports,
    keystores: Keystores,
    originals: Keystores,
    sealer: RecipientSealer,
    fingerprint: str,
    approval_lifetime: int,
) -> Administration:
    """Return the services; `fingerprint` is the server's, `approval_lifetime` in seconds."""
    return Administration(
        fingerprint=fingerprint,
        policies=PolicyService(ports),
        policy_replay=PolicyReplay(ports),
        device_groups=DeviceGroupService(ports),
        devices=DeviceService(ports, keystores),
        evidence=EvidenceService(ports),
        agents=AgentService(ports),
        enrollment_tokens=EnrollmentTokenService(ports, fingerprint),
        key_requests=KeyRequestService(ports, approval_lifetime),
        keys=KeyService(ports, keystores),
        key_exports=KeyExportService(ports, originals, sealer),
        api_tokens=ApiTokenService(ports),
        audit=AuditService(ports),
        refusals=RefusalLog(ports),
    )
