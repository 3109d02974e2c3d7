"""For all tests: Hypothesis sets no limit of time, since a busy machine is no failure."""

from hypothesis import settings

settings.register_profile("securecloud", deadline=None)
settings.load_profile("securecloud")
