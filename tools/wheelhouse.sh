#!/usr/bin/env bash
# Collect our wheels and everything they need into a wheelhouse that installs without a network:
#   tools/wheelhouse.sh WHEELS TARGET [PYTHON_VERSION]
# The platform tags are those of Debian 12 and Ubuntu 24.04, whatever the controller runs.
set -euo pipefail
cd "$(dirname "$0")/.."
wheels=$1 target=$2 python=${3:-3.11}
abi=cp${python/./}

rm -rf "$target"
mkdir -p "$target"
cp "$wheels"/securecloud_*.whl "$target"
.venv/bin/python -m pip download -q --disable-pip-version-check --dest "$target" \
    --only-binary=:all: --python-version "$python" --implementation cp \
    --abi "$abi" --abi abi3 --abi none \
    --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 \
    -c constraints.txt --find-links "$wheels" \
    pip securecloud-agent securecloud-server supervisor
for one in pip securecloud_agent securecloud_server securecloud_protocol; do
    [ "$(find "$target" -name "$one-*.whl" | wc -l)" -eq 1 ] || { echo "expected one $one wheel in $target" >&2; exit 1; }
done
echo "$target: $(find "$target" -name '*.whl' | wc -l) wheels, $(du -sh "$target" | cut -f1)"
