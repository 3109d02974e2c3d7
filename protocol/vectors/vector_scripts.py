"""What is said in the exchanges that `generate.py` records."""

from dataclasses import replace

from protocol_world import BOOT_ID, LUKS_UUID, Script, decisions, evidence_body, header, volume
from securecloud_protocol import messages as wire


def _waiting() -> Script:
    return Script(
        copies=(),
        body=replace(evidence_body(), facts={}, proofs=()),
        decisions=(
            wire.DeviceDecision(
                "data", "pending", "approval_required", "r-3", 15, None, None, None, None
            ),
            wire.DeviceDecision("logs", "denied", "policy", "r-4", None, None, None, None, None),
        ),
        results=(wire.AckResult("logs", 0, "closed", LUKS_UUID, False, "denied: policy"),),
    )


def _grace() -> Script:
    """An open device that is denied and given time, and one that somebody held too long."""
    body = replace(
        evidence_body(),
        devices=(
            wire.DeviceClaim("data", "check", bytes(32)),
            wire.DeviceClaim("logs", "key", bytes(32)),
        ),
    )
    denied = wire.DeviceDecision("data", "denied", "policy", "r-5", None, None, None, None, None)
    return Script(
        body=body,
        decisions=(
            replace(denied, grace=wire.Grace(300, 3600)),
            replace(denied, device="logs", code="rejected"),
        ),
        results=(
            wire.AckResult("data", 3, "grace", LUKS_UUID, False, "closes in 300 s"),
            wire.AckResult("logs", 1, "suspended", LUKS_UUID, False, "held by postgres (77)"),
        ),
    )


def _offline() -> Script:
    """A key that may be kept for boots without a server, and a device that was opened in one."""
    granted, checked = decisions()
    body = replace(
        evidence_body(),
        devices=(
            wire.DeviceClaim("data", "renew", bytes(32), header()),
            wire.DeviceClaim("logs", "renew", bytes(32)),
        ),
    )
    return Script(
        body=body,
        decisions=(
            replace(granted, offline=wire.Offline(86400, 3, (4, 7))),
            replace(checked, offline=wire.Offline(wire.OFFLINE_SHORTEST, 1, (7,))),
        ),
        results=(
            wire.AckResult(
                "data", 3, "mounted", LUKS_UUID, False, "it stays mounted", header(changing=True)
            ),
            wire.AckResult("logs", 1, "offline", LUKS_UUID, False, "opened without a server once"),
        ),
    )


def _header_changed() -> Script:
    """A disk with a header that nobody opened, and one whose header is damaged."""
    body = replace(
        evidence_body(),
        devices=(
            wire.DeviceClaim("data", "key", bytes(32), header()),
            wire.DeviceClaim("logs", "key", bytes(32), wire.LuksHeader(bytes(32), None, False)),
        ),
    )
    denied = wire.DeviceDecision(
        "data", "denied", "header_changed", None, None, None, None, None, None
    )
    return Script(
        body=body, decisions=(denied, replace(denied, device="logs")), results=(), copies=()
    )


def _all_devices() -> Script:
    plain = replace(
        volume(),
        iscsi=None,
        mount_point=None,
        options=(),
        initialise="if_blank",
        luks_uuid=None,
        header=None,
    )
    return Script(
        asked=(),
        devices=("d-0.x_y",),
        copies=("d-0.x_y",),
        facts=(),
        body=wire.EvidenceBody("0.1.0", BOOT_ID, (wire.DeviceClaim("d-0.x_y", "key", None),), {}),
        decisions=(
            wire.DeviceDecision(
                "d-0.x_y", "granted", "approved", None, None, bytes(64), 1, bytes(32), plain
            ),
        ),
        results=(wire.AckResult("d-0.x_y", 1, "opened", LUKS_UUID, True, ""),),
    )


def _nothing() -> Script:
    return Script(
        asked=(),
        devices=(),
        facts=(),
        body=wire.EvidenceBody("0.1.0", BOOT_ID, (), {}),
        decisions=(),
        results=(),
        copies=(),
    )


def _unusual_text() -> Script:
    facts = {
        "users": wire.Fact(["root", "zoë", "\U0001f600", 'quo"te', "back\\slash"], "claimed", None),
        "boot": wire.Fact({"uptime_seconds": 2**53 - 1, "skew": -(2**53 - 1)}, "claimed", None),
        "instance": wire.Fact({"user_data": "line\nline\ttab"}, "cloud_signed", None),
        "packages": wire.Fact({}, "claimed", None),
        "tpm": wire.Fact(None, None, "kein Gerät"),
        "deep": wire.Fact([[[[[[[[[[[1]]]]]]]]]]], "tpm_quoted", None),
    }
    requests = (wire.FactRequest("file_digests", ("/etc/naïve file", "/srv/" + "x" * 1000)),)
    return Script(facts=requests, body=replace(evidence_body(), facts=facts))


def _many_devices() -> Script:
    names = tuple(f"device-{number:02}" for number in range(wire.MAX_DEVICES))
    granted, _ = decisions()
    return Script(
        asked=names,
        devices=names,
        copies=names,
        body=replace(
            evidence_body(), devices=tuple(wire.DeviceClaim(name, "key", None) for name in names)
        ),
        decisions=tuple(replace(granted, device=name) for name in names),
        results=tuple(wire.AckResult(name, 3, "mounted", None, False, "") for name in names),
    )


SCRIPTS: dict[str, Script] = {
    "a key and a check are granted": Script(),
    "one device waits and one is denied": _waiting(),
    "one device has a grace and one is suspended": _grace(),
    "keys may be kept for boots without a server": _offline(),
    "two headers are not the expected ones": _header_changed(),
    "all devices of the agent, a blank volume": _all_devices(),
    "an agent without devices": _nothing(),
    "unusual text and the largest integers": _unusual_text(),
    "as many devices as there may be": _many_devices(),
    "the server is seen under a new certificate": Script(certificate=b"the new certificate"),
}
