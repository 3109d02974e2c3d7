"""Fact `tpm`: is there a TPM, and of which family."""

from securecloud_agent.probes.context import Context

_FAMILIES = {"1": "1.2", "2": "2.0"}


def collect(context: Context, _args: tuple[str, ...]) -> dict[str, bool | str | None]:
    """Return `{present, version}`."""
    devices = sorted(context.path("/sys/class/tpm").glob("tpm[0-9]*"))
    if not devices:
        return {"present": False, "version": None}
    major = context.optional_text(f"/sys/class/tpm/{devices[0].name}/tpm_version_major")
    return {"present": True, "version": _FAMILIES.get((major or "").strip())}
