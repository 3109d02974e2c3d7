# Copyright (c) 2026, The SecureCloud project
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""SecureCloud's command lines on this machine: JSON in on stdin, JSON out. Private."""

from __future__ import annotations

import json
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.trend.securecloud.plugins.module_utils._errors import CommandFailed

_LAST_LINES = 5

Run = Callable[..., "tuple[int, str, str]"]
"""AnsibleModule.run_command, or what a test puts in its place."""


class Command:
    """One of our programs with its configuration file.

    Settings and secrets go in on stdin and never into an argument, for arguments are public.
    """

    def __init__(
        self,
        run: Run,
        program: str,
        config: str,
        user: str | None = None,
        credentials: Sequence[str] = (),
    ) -> None:
        self._run = run
        self._program = program
        self._as_user = (
            _through_systemd(user, credentials) if credentials else _through_runuser(user)
        )
        self._prefix = [program, "--config", config]

    def json(
        self,
        arguments: Sequence[str],
        stdin: Mapping[str, Any] | str = "",
        accepted: Sequence[int] = (0,),
    ) -> dict[str, Any]:
        """Run with `--json` and return the object that it prints.

        CommandFailed when it is missing, ends with a status that is not accepted, or prints
        something else.
        """
        data = stdin if isinstance(stdin, str) else json.dumps(stdin)
        argv = [*self._as_user, *self._prefix, *arguments, "--json"]
        try:
            status, output, messages = self._run(argv, data=data, handle_exceptions=False)
        except OSError as error:
            raise CommandFailed(f"cannot run {argv[0]}: {error.strerror}") from None
        if status not in accepted:
            raise CommandFailed(self._complaint(arguments[0], status, output, messages))
        return self._object(arguments[0], output)

    def _object(self, name: str, output: str) -> dict[str, Any]:
        try:
            document = json.loads(output)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise CommandFailed(f"{self._program} {name} did not print a JSON object")
        return document

    def _complaint(self, name: str, status: int, output: str, messages: str) -> str:
        lines = [line.strip() for line in (messages or output).splitlines() if line.strip()]
        said = " / ".join(lines[-_LAST_LINES:]) or "it said nothing"
        return f"{self._program} {name} failed with status {status}: {said}"


def _through_runuser(user: str | None) -> list[str]:
    return ["runuser", "--user", user, "--"] if user else []


def _through_systemd(user: str | None, credentials: Sequence[str]) -> list[str]:
    """Only systemd decrypts a credential (systemd.exec, LoadCredentialEncrypted=), for a unit."""
    named = [(path.rpartition("/")[2], path) for path in credentials]
    properties = ["UMask=0077", *(f"LoadCredentialEncrypted={name}:{path}" for name, path in named)]
    if user:
        properties.append(f"User={user}")
    flags = ["--quiet", "--pipe", "--wait", "--collect"]
    return ["systemd-run", *flags, *[f"--property={each}" for each in properties], "--"]
