"""Who runs a command."""

import os
import pwd

from securecloud_server.domain.records import Actor


def this_user() -> Actor:
    """Return the account that runs this process, for the audit log."""
    user = os.getuid()
    try:
        name = pwd.getpwuid(user).pw_name
    except KeyError:
        name = str(user)
    return Actor("cli", name)
