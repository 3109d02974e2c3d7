"""Fact `tpm_pcrs`: registers of the TPM as the kernel reads them (SHA-256 bank, Linux 5.12)."""

import re

from securecloud_agent.probes.context import Context, ProbeError

_BANK = "/sys/class/tpm/tpm0/pcr-sha256"
_REGISTER = re.compile(r"1?[0-9]|2[0-3]")
_VALUE = re.compile(r"[0-9A-F]{64}", re.IGNORECASE)


def collect(context: Context, args: tuple[str, ...]) -> dict[str, str]:
    """Return `{register: "sha256:<hex>"}` of the registers asked for, of all without `args`.

    What is no register is left out, so that its rule fails.
    """
    if not context.path(_BANK).is_dir():
        raise ProbeError(f"there is no TPM whose registers the kernel shows in {_BANK}")
    asked = args or tuple(map(str, range(24)))
    return {each: _read(context, each) for each in asked if _REGISTER.fullmatch(each)}


def _read(context: Context, register: str) -> str:
    value = context.text(f"{_BANK}/{register}").strip()
    if not _VALUE.fullmatch(value):
        raise ProbeError(f"register {register} reads as no SHA-256 digest")
    return f"sha256:{value.lower()}"
