"""Where a request goes, by its URL.

Owns the case of a URL that is none: its library says so to whoever asked, and it is no fault of ours, of which twenty
in a row would switch a hook off.
"""

from __future__ import annotations

from typing import Any, Optional, Tuple
from urllib.parse import urlsplit


def address(url: Any) -> Optional[Tuple[str, Optional[int], str]]:
    """Host in small letters, port where one is named, and path without its query; None for what is no URL."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.port, parts.path
    except (ValueError, TypeError, AttributeError):
        return None
