"""Fact `secure_boot`: the firmware's variables (UEFI 2.10, section 3.3)."""

from securecloud_agent.probes.context import Context

_GUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
_VARIABLE_BYTES = 5


def collect(context: Context, _args: tuple[str, ...]) -> dict[str, bool]:
    """Return `{supported, enabled}`; in setup mode anyone can enrol keys, so it is not enabled."""
    secure = _variable(context, "SecureBoot")
    return {
        "supported": secure is not None,
        "enabled": secure == 1 and _variable(context, "SetupMode") != 1,
    }


def _variable(context: Context, name: str) -> int | None:
    path = f"/sys/firmware/efi/efivars/{name}-{_GUID}"
    if not context.path(path).exists():
        return None
    content = context.octets(path, 64)
    # Four octets of attributes, then the value.
    return content[-1] if len(content) == _VARIABLE_BYTES else None
