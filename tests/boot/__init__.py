"""What only somebody outside of the machines can see: run by molecule, on the lab's machines.

Each folder belongs to the scenario of its name. Its tests tell one story, in the order of the
files; each leaves the machines as the next expects them: volumes open, nobody refused.
"""
