"""From blank machines to volumes that open at boot, and whatever goes wrong on the way."""
