"""The admin API: `/api/v1`, JSON, described by its own OpenAPI 3.1 document."""

from securecloud_server.web.admin.api import admin_flask
from securecloud_server.web.admin.server import About

__all__ = ["About", "admin_flask"]
