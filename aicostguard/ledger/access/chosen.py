"""The project that a link names: `?in=ORGANISATION/NAME` says what the header AICG-Project says.

Owns that parameter, on every route. A link, a download and a stream of a page cannot bring a header. It is taken out of
the query before a route sees it; what it names is checked where the header is, by `door`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlencode

if TYPE_CHECKING:  # who only makes links has no use for a framework
    from starlette.types import ASGIApp, Receive, Scope, Send

#: the parameter, and where in the scope its value stands for those who make links
NAME = "in"
CHOSEN = "aicg.chosen"
_HEADER = b"aicg-project"


class Chosen:
    """Turns the parameter into the header. A header that is there stands."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and b"in=" in scope["query_string"]:
            pairs = parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)
            names = [value for name, value in pairs if name == NAME]
            if names:
                scope = {
                    **scope,
                    "query_string": urlencode([pair for pair in pairs if pair[0] != NAME]).encode("ascii"),
                    CHOSEN: names[-1],
                }
                if names[-1] and not any(name == _HEADER for name, _ in scope["headers"]):
                    value = names[-1].encode("latin-1", "replace")
                    scope["headers"] = [*scope["headers"], (_HEADER, value)]
        await self._app(scope, receive, send)
