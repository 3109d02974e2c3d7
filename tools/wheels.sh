#!/usr/bin/env bash
# Build our wheels into DIR (first argument), only when a source is newer than the last build.
set -euo pipefail
cd "$(dirname "$0")/.."
target=$1
stamp=$target/.built

sources=(protocol audit agent server constraints.txt)
if [ -e "$stamp" ] && [ -z "$(find "${sources[@]}" -newer "$stamp" \( -path '*/src/*' -o -name pyproject.toml -o -name README.md -o -name constraints.txt \) -not -name '*.pyc' -not -name __pycache__ -print -quit)" ]; then
    exit 0
fi
echo "== building the wheels"
mkdir -p "$target"
rm -f "$target"/securecloud_*.whl "$stamp"
# One timestamp for all archive members: equal sources give equal wheels.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || echo 1767225600)
export SOURCE_DATE_EPOCH
for part in protocol audit agent server; do
    said=$(.venv/bin/python -m build --wheel --no-isolation --outdir "$target" "$part" 2>&1) || {
        echo "$said" >&2
        exit 1
    }
done
grep -vE '^(#|$)' constraints.txt >"$target/../constraints.txt"
touch "$stamp"
ls -1 "$target"
