"""The SecureCloud agent: proves a machine's state, and opens and locks its encrypted volumes.

Rooms, each importing only those below it; rooms on one line never import each other:

- `main`: the command line; the only place that wires the others together.
- `client` | `volumes` | `probes` | `providers`: the server, the disks, the machine's facts, and
  what a cloud says of the machine.
- `decide`: pure functions from what is seen and what the server answered to what is to be done.
- `state` | `config` | `run`: what the agent remembers, its settings, the one subprocess wrapper.
- `errors`: what an operator is told.
"""

__version__ = "0.1.0"
