#!/usr/bin/env bash
# Install the built collection far from this checkout and read every plugin's documentation there.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
tarball=$(ls -t build/trend-securecloud-*.tar.gz | head -1)
away=$(mktemp -d)
trap 'rm -rf "$away"' EXIT

contents=$(tar -tzf "$tarball")
for wheel in protocol audit agent server; do
    grep -q "^files/wheels/securecloud_$wheel-.*\.whl$" <<<"$contents" || {
        echo "$tarball carries no $wheel wheel" >&2
        exit 1
    }
done
cd "$away"
touch ansible.cfg
export ANSIBLE_CONFIG=$away/ansible.cfg ANSIBLE_HOME=$away/home ANSIBLE_COLLECTIONS_PATH=$away/collections
"$root/.venv/bin/ansible-galaxy" collection install --offline -p "$away/collections" "$root/$tarball" >/dev/null
for kind in module role; do
    names=$("$root/.venv/bin/ansible-doc" -t "$kind" -l trend.securecloud | awk '/^trend\.securecloud\./ {print $1}' | sort -u)
    [ -n "$names" ] || { echo "the installed collection has no $kind" >&2; exit 1; }
    # shellcheck disable=SC2086 # names are separate words on purpose
    "$root/.venv/bin/ansible-doc" -t "$kind" $names >/dev/null
    echo "$kind: $(echo "$names" | wc -l) documented"
done
"$root/.venv/bin/ansible-playbook" --syntax-check -i localhost, trend.securecloud.site >/dev/null
echo "playbook trend.securecloud.site: syntax ok"
