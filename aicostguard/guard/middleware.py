"""An ASGI application whose requests carry labels, and whose refused calls are answered with 402.

Owns the way from a request's headers to labels, and from a refusal to a response. Plain ASGI: for FastAPI, Starlette,
Quart, Litestar and whatever else is called so; depends on none of them. If this breaks, calls are counted for nobody in
particular, or a refusal comes out as a server error.

    app.add_middleware(BudgetMiddleware, headers={"x-team": "team", "x-customer": "tags.customer"})
"""

from __future__ import annotations

import json
import time
from typing import Any, Awaitable, Callable, Dict, List, Mapping, MutableMapping, Optional, Tuple

from aicostguard import context
from aicostguard.guard.errors import BudgetExhausted
from aicostguard.health import health

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

#: what the client of a refused call reads
TEXT = "Budget limit reached. Inference blocked."
#: labels that a request may set; others stand under `tags.`
_LABELS = ("user", "session", "agent", "team", "project", "request")
_TAG = "tags."


class BudgetMiddleware:
    """Labels for every AI call that a request makes, and 402 for one that has no room.

    `headers` says which header stands for which label (`team`, `user`, `session`, `project`, `agent`, `request`, or
    `tags.NAME`); `labels` is given the ASGI scope and gives labels of its own, which go first. `explain` adds the
    refusal's reason, with its figures, to the response. A refusal after the response has begun is raised on.
    """

    def __init__(
        self,
        app: Callable[[Scope, Receive, Send], Awaitable[None]],
        headers: Optional[Mapping[str, str]] = None,
        labels: Optional[Callable[[Scope], Mapping[str, str]]] = None,
        explain: bool = True,
    ) -> None:
        self._app = app
        self._headers = {name.lower().encode("latin-1"): label for name, label in (headers or {}).items()}
        for label in self._headers.values():
            if label not in _LABELS and not label.startswith(_TAG):
                raise ValueError("headers: %r is no label: write one of %s, or tags.NAME" % (label, ", ".join(_LABELS)))
        self._labels = labels
        self._explain = explain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        begun = False

        async def sending(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            with _labels(self._given(scope)):
                await self._app(scope, receive, sending)
        except BudgetExhausted as error:
            if begun or scope["type"] != "http":
                raise
            await self._refuse(error, send)

    def _given(self, scope: Scope) -> Dict[str, str]:
        found: Dict[str, str] = {}
        try:
            for name, value in scope.get("headers") or ():
                label = self._headers.get(bytes(name).lower())
                if label is not None:
                    found[label] = bytes(value).decode("latin-1")
        except Exception as error:
            health.fault("middleware.headers", error)
        if self._labels is not None:  # the application's own: what it raises is its own
            found.update(self._labels(scope))
        return found

    async def _refuse(self, error: BudgetExhausted, send: Send) -> None:
        body: Dict[str, Any] = {"detail": TEXT}
        if self._explain:
            body["reason"] = str(error)
        content = json.dumps(body).encode()
        headers: List[Tuple[bytes, bytes]] = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(content)),
        ]
        resets = getattr(error, "resets_at", None)
        if resets is not None:
            headers.append((b"retry-after", b"%d" % max(1, -(-(resets - time.time_ns() // 1_000_000) // 1000))))
        await send({"type": "http.response.start", "status": 402, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def _labels(given: Mapping[str, str]) -> context.Scope:
    plain: Dict[str, Any] = {name: value for name, value in given.items() if name in _LABELS}
    tags = {name[len(_TAG) :]: value for name, value in given.items() if name.startswith(_TAG)}
    return context.labels(**plain, tags=tags or None)
