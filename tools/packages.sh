#!/usr/bin/env bash
# Make sure that the Debian packages a checkout needs are there; ask before using sudo.
set -euo pipefail

missing=()
need() { # need PACKAGE TEST...
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

PATH=$PATH:/usr/sbin:/sbin
need cryptsetup-bin command -v cryptsetup
need e2fsprogs command -v mkfs.ext4
need util-linux command -v blkid
need openssl command -v openssl
need python3-venv python3 -c 'import ensurepip, venv'
for extra in "$@"; do
    need "$extra" dpkg-query -W -f '${db:Status-Status}' "$extra"
done
[ ${#missing[@]} -eq 0 ] && exit 0

echo "SecureCloud needs these Debian packages: ${missing[*]}"
if ! command -v apt-get >/dev/null; then
    echo "Install them with your package manager, then run make again." >&2
    exit 1
fi
as_root=()
if [ "$(id -u)" -ne 0 ]; then
    as_root=(sudo)
    if [ "${SECURECLOUD_YES:-}" != 1 ]; then
        if [ ! -t 0 ]; then
            echo "Run: sudo apt-get install -y ${missing[*]}   (or set SECURECLOUD_YES=1)" >&2
            exit 1
        fi
        read -r -p "Install them now with sudo apt-get? [y/N] " answer
        case $answer in [yY]*) ;; *) echo "Nothing was installed." >&2; exit 1 ;; esac
    fi
fi
"${as_root[@]}" apt-get update -qq
"${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
