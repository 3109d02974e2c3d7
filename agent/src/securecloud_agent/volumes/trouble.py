"""The errors of this room."""

from securecloud_agent.errors import AgentError


class VolumeError(AgentError):
    """A volume could not be brought where it should be; what was there before is still there."""

    code = "volume"


class WrongKeyError(VolumeError):
    """The volume does not open with this key."""
