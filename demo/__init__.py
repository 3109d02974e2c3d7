"""The demo: the main job on this machine, with the real parts, and each of its endings."""
