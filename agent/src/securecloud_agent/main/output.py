"""Results on standard output; everything else goes to standard error."""

import json
import sys
from typing import Any


def print_json(result: Any) -> None:
    """Print `result` as one JSON document."""
    print(json.dumps(result, indent=2, ensure_ascii=False), flush=True)


def print_table(rows: list[list[str]]) -> None:
    """Print rows in aligned columns; the first row is the heading."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        sys.stdout.write(line.rstrip() + "\n")
