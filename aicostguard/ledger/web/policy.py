"""What a browser may do with our pages.

Owns the headers. Nothing of another host is ever loaded, no script or style stands in a page, nobody frames one. A page
names itself as the origin of its own forms (`same-origin`), by which they are known; to others it says nothing.
"""

from __future__ import annotations

from typing import Mapping

_POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": "; ".join(f"{name} {what}" for name, what in _POLICY.items()),
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
#: of answers that are no pages
DATA_HEADERS: Mapping[str, str] = {"Cache-Control": "no-store"}
