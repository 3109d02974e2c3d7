"""Flask: agent API, admin API, health and metrics. Reads, validates, calls a service, renders."""
