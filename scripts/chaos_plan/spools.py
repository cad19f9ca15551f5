"""What lies in a spool. Apart, because clients and driver ask it, and a client meters whoever imports it."""

from __future__ import annotations

import os
from typing import Dict


def waiting(root: str) -> Dict[str, int]:
    """Files of a spool that are not in quarantine, with their sizes."""
    found: Dict[str, int] = {}
    for folder, _, names in os.walk(root):
        if os.path.basename(folder) != "quarantine":
            for name in names:
                path = os.path.join(folder, name)
                try:
                    found[path] = os.path.getsize(path)
                except FileNotFoundError:
                    continue
    return found
