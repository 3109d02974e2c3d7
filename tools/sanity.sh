#!/usr/bin/env bash
# ansible-test sanity on the collection (first argument), in virtual environments of its own.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
collection=$1
home=$root/build/ansible-test-home
cache=$home/.ansible/test/cache
mkdir -p "$cache"

# ansible-test wants to download get-pip; the pip that Python itself bundles serves as well, and
# works where only a package index is reachable.
version=$(grep -oP "^\s+pip='\K[0-9.]+" .venv/lib/python3*/site-packages/ansible_test/_internal/python_requirements.py | tail -1)
cat >"$cache/get_pip_${version//./_}.py" <<'PY'
import subprocess
import sys

# A process of its own, for ensurepip switches off the configuration of pip in the one it runs in.
subprocess.check_call([sys.executable, "-m", "ensurepip"], stdout=subprocess.DEVNULL)
packages = [word for word in sys.argv[1:] if not word.startswith("-")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", "-q", *packages]))
PY

python=$(.venv/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])')
cd "$collection"
HOME=$home PATH=$root/.venv/bin:$PATH ANSIBLE_COLLECTIONS_PATH=$root/collections \
    ansible-test sanity --venv --python "$python" --color no "${@:2}"
