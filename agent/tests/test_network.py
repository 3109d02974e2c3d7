"""Waiting for the network: woken by the kernel's news, and by time where there are none."""

import socket
import subprocess
import sys
import time

from securecloud_agent.client import network
from securecloud_agent.client.network import Routes

_IN_A_NETWORK_OF_ITS_OWN = """\
import subprocess, time
from securecloud_agent.client.network import Routes, has_route
routes, servers = Routes(), ["https://192.0.2.1"]
assert not has_route(servers)
for words in (["link", "set", "lo", "up"], ["route", "add", "192.0.2.0/24", "dev", "lo"]):
    subprocess.run(["ip", *words], check=True)
begin = time.monotonic()
while not has_route(servers):
    routes.wait(20)
assert time.monotonic() - begin < 10
"""


def test_a_route_that_comes_is_seen_at_once():
    command = ["unshare", "--user", "--map-root-user", "--net", sys.executable, "-c"]
    subprocess.run([*command, _IN_A_NETWORK_OF_ITS_OWN], check=True)


def test_news_end_the_wait_once(monkeypatch):
    ours, kernels = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setblocking(False)
    monkeypatch.setattr(network, "_subscribe", lambda: ours)
    routes = Routes()
    kernels.send(b"news")
    kernels.send(b"more")
    begin = time.monotonic()
    routes.wait(60)
    assert time.monotonic() - begin < 30
    routes.wait(0)
    assert not network.select.select([ours], [], [], 0)[0]
    routes.close()
    kernels.close()


def test_without_news_time_passes(monkeypatch):
    def refused():
        raise OSError

    monkeypatch.setattr(network, "_subscribe", refused)
    begin = time.monotonic()
    routes = Routes()
    routes.wait(0.05)
    routes.close()
    assert time.monotonic() - begin >= 0.05
