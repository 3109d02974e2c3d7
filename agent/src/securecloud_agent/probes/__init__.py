"""The machine's facts, one module each, collected only when a challenge asks for them."""
