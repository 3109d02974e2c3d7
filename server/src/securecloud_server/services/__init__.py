"""Use cases: authorize, act and log in one unit of work. No HTTP, no SQL."""
