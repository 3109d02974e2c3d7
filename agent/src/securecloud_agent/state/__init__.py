"""What the agent remembers between runs, each thing in a small file that is replaced atomically."""
