"""Virtual machines that boot for real, for molecule, for the boot benchmark and for people.

QEMU on this machine, Debian 12 inside, no way out: all traffic stays on loopback.
"""
