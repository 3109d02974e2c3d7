#!/usr/bin/env python3
"""Ansible's view of the machines that `make lab` started."""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from lab.inventory import inventory
from lab.lab import Lab
from lab.place import LabError

if "--host" in sys.argv:
    print("{}")
else:
    try:
        print(json.dumps(inventory(Lab())))
    except LabError as error:
        sys.exit(f"inventories/lab: {error}")
