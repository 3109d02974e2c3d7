# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Lets the tests run under plain pytest as well as under ansible-test units."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

COLLECTIONS = str(Path(__file__).resolve().parents[5])
if COLLECTIONS not in sys.path:
    sys.path.insert(0, COLLECTIONS)

from ansible_collections.trend.securecloud.tests.unit.certificates import Authority
from ansible_collections.trend.securecloud.tests.unit.replay import ReplayClient
from ansible_collections.trend.securecloud.tests.unit.stub import TOKEN, StubServer


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    """The authority that the client under test trusts."""
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture
def stub(authority):
    """A server over TLS 1.3 that is there for one test."""
    with StubServer(authority.server_context(), TOKEN) as server:
        yield server


@pytest.fixture
def replay():
    """A client that answers with recorded replies."""
    return ReplayClient
