#!/usr/bin/env bash
# Run molecule, and leave no virtual machine running, however it ends.
#   tools/molecule.sh ARGUMENTS...
set -euo pipefail
cd "$(dirname "$0")/.."

mkdir -p build/molecule
export ANSIBLE_LOG_PATH=$PWD/build/molecule/ansible.log
export SECURECLOUD_FAILURES=$PWD/build/molecule/failures
rm -f "$ANSIBLE_LOG_PATH" "$SECURECLOUD_FAILURES"

run=
tree() {
    for child in $(pgrep -P "$1"); do tree "$child"; done
    echo "$1"
}
tell() { # Last of all, for molecule's own last words do not say what failed.
    echo "== what failed"
    { grep -aE 'fatal: |failed: \[' "$ANSIBLE_LOG_PATH" || true; } | cut -c-400 | tail -n 2
    tail -c 1200 "$SECURECLOUD_FAILURES" 2>/dev/null || true
}
end() {
    status=$?
    trap - EXIT INT TERM HUP
    if [ -n "$run" ]; then
        # Playbooks make sessions of their own, so there is no one group to end.
        mapfile -t all < <(tree "$run")
        kill -TERM "${all[@]}" 2>/dev/null || true
        for one in "${all[@]}"; do timeout 5 tail --pid="$one" -f /dev/null || true; done
        kill -KILL "${all[@]}" 2>/dev/null || true
    fi
    .venv/bin/python -m lab down
    if [ "$status" -ne 0 ]; then tell; fi
    exit "$status"
}
trap end EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

.venv/bin/molecule "$@" &
run=$!
wait "$run"
run=
