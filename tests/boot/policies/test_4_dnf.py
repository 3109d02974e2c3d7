"""A machine whose packages are rpm's: the facts on them come from dnf and rpm."""

from collections.abc import Iterator

import pytest

from tests.boot.guests import Api, Guest, eventually
from tests.boot.policies.devices import made, rule

# No packages of dpkg's, and the database of rpm where other distributions have it.
OTHER = """\
set -e
mv /var/lib/dpkg/status /var/lib/dpkg/status.away
mkdir -p /etc/rpm /etc/yum.repos.d /var/tmp/rpms/repo
echo '%_dbpath /var/lib/rpm' >/etc/rpm/macros
cat >/etc/yum.repos.d/lab.repo <<REPO
[lab]
name=lab
baseurl=file:///var/tmp/rpms/repo
gpgcheck=0
REPO
"""
# dnf is slow on an emulated processor that others want as well.
TIMEOUT = """\
sed -i 's/^timeout = .*/timeout = {}/' /etc/securecloud/agent.toml
systemctl restart securecloud-agent
"""
REPOSITORY = """\
set -e
cd /var/tmp/rpms
package() {
    cat >$1.spec <<SPEC
Name: $1
Version: $2
Release: 1
Summary: -
License: -
BuildArch: noarch
%description
%files
SPEC
    rpmbuild --quiet -bb --define "_rpmdir $PWD" \\
        --define '_rpmfilename %%{NAME}-%%{VERSION}.rpm' $1.spec
}
publish() {
    createrepo_c --quiet repo
    [ ! -e updateinfo.xml ] || modifyrepo_c updateinfo.xml repo/repodata >/dev/null
    dnf --quiet makecache --refresh
}
"""
ADVISORY = """\
<updates><update from="lab" status="final" type="security" version="1">
<id>LAB-1</id><title>wanted</title><severity>Important</severity><issued date="2026-01-01"/>
<pkglist><collection><package name="wanted" epoch="0" version="2" release="1" arch="noarch">
<filename>wanted-2.rpm</filename></package></collection></pkglist>
</update></updates>
"""
AWAY = """\
rm -rf /etc/rpm/macros /etc/yum.repos.d/lab.repo /var/tmp/rpms /var/cache/dnf /var/lib/rpm/*
mv /var/lib/dpkg/status.away /var/lib/dpkg/status
"""
CRITERIA = {
    "updates": rule("patch_level.pending_security_updates", "equals", 0),
    "package": {"not": rule("packages", "has_keys", ["unwanted"])},
}


@pytest.fixture
def guest(agent2: Guest) -> Iterator[Guest]:
    agent2.run(OTHER + TIMEOUT.format(60))
    agent2.run(f"{REPOSITORY} package wanted 1; package unwanted 1; mv wanted-1.rpm repo; publish")
    agent2.run("rpm --install --quiet /var/tmp/rpms/repo/wanted-1.rpm 2>&1")
    yield agent2
    agent2.run(AWAY + TIMEOUT.format(10))


def test_security_updates_that_dnf_knows_of_and_packages_of_rpm(api: Api, guest: Guest) -> None:
    with made(api, guest, CRITERIA) as devices:
        guest.run(f"{REPOSITORY} cat >updateinfo.xml", stdin=ADVISORY)
        guest.run(f"{REPOSITORY} package wanted 2; mv wanted-2.rpm repo; publish")
        eventually("an update waits", lambda: devices.closed() == {"updates"})
        assert devices.why("updates")["value"] == 1
        guest.run("dnf --quiet --assumeyes upgrade --security 2>&1")
        eventually("it is installed", lambda: not devices.closed())
        guest.run("rpm --install --quiet /var/tmp/rpms/unwanted-1.rpm 2>&1")
        eventually("a package is unwanted", lambda: devices.closed() == {"package"})
        guest.run("rpm --erase --quiet unwanted 2>&1")
        eventually("it is gone", lambda: not devices.closed())
