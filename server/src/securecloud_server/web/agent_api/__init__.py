"""The agent API: five messages in, five out; HTTP carries them and knows nothing of them."""

from securecloud_server.web.agent_api.steps import PREFIX, agent_api
from securecloud_server.web.agent_api.waiting import WaitingRoom
from securecloud_server.web.agent_api.waits import waits

__all__ = ["PREFIX", "WaitingRoom", "agent_api", "waits"]
