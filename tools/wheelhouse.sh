#!/usr/bin/env bash
# Collect our wheels and everything they need into two wheelhouses that install without a network,
# TARGET/agent and TARGET/server:
#   tools/wheelhouse.sh WHEELS TARGET [PYTHON_VERSION]
# The platform tags are those of Debian 12 and Ubuntu 24.04, whatever the controller runs.
set -euo pipefail
cd "$(dirname "$0")/.."
wheels=$1 target=$2 python=${3:-3.11}
abi=cp${python/./}

rm -rf "$target"
for part in agent server; do
    mkdir -p "$target/$part"
    .venv/bin/python -m pip download -q --disable-pip-version-check --dest "$target/$part" \
        --only-binary=:all: --python-version "$python" --implementation cp \
        --abi "$abi" --abi abi3 --abi none \
        --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 \
        -c constraints.txt --find-links "$wheels" \
        pip "securecloud-$part" supervisor
    ours=(securecloud_protocol "securecloud_$part")
    [ "$part" = agent ] || ours+=(securecloud_audit)
    for one in pip "${ours[@]}"; do
        [ "$(find "$target/$part" -name "$one-*.whl" | wc -l)" -eq 1 ] ||
            { echo "expected one $one wheel in $target/$part" >&2; exit 1; }
    done
    echo "$target/$part: $(find "$target/$part" -name '*.whl' | wc -l) wheels, $(du -sh "$target/$part" | cut -f1)"
done
