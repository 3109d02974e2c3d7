"""The agent API: four messages in, four out; HTTP carries them and knows nothing of them."""

from securecloud_server.web.agent_api.steps import PREFIX, agent_api

__all__ = ["PREFIX", "agent_api"]
