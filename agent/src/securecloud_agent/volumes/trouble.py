"""The one error of this room."""

from securecloud_agent.errors import AgentError


class VolumeError(AgentError):
    """A volume could not be brought where it should be; what was there before is still there."""

    code = "volume"
