"""The agent API: four messages in, four out; HTTP carries them and knows nothing of them."""

from securecloud_server.web.agent_api.views import agent_api

__all__ = ["agent_api"]
