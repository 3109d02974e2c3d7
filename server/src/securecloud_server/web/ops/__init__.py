"""For those who run the server: is it alive, is it ready, and what does it do."""

from securecloud_server.web.ops.metrics import Metrics
from securecloud_server.web.ops.views import Checks, ops

__all__ = ["Checks", "Metrics", "ops"]
