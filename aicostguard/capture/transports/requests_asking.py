"""requests under `AICG_STREAM_USAGE=request`: a prepared request that asks while it is being sent.

Owns the change of the request and its undoing: the object is the caller's. Stays off, and is counted as such, with
urllib3 before 2, where a read that shows nothing would look like the end of the body. Loaded only when opted in.
"""

from __future__ import annotations

import sys
from typing import Any, Callable, Dict, Optional
from urllib.parse import urlsplit

from aicostguard.capture import asking
from aicostguard.capture.call import Call
from aicostguard.health import health


def question(call: Call, request: Any, content: Optional[bytes]) -> Optional[Question]:
    """What is put into this request, or None when it stays as it is. Never raises."""
    try:
        host = urlsplit(request.url).netloc
        if not asking.wanted(call, host):
            return None
        if str(getattr(sys.modules.get("urllib3"), "__version__", "1")).startswith("1"):
            health.note("not_asked: urllib3 before 2")
            return None
        body = asking.body(call, content, request.headers.get)
        return None if body is None else Question(call, host, request, body)
    except Exception as error:
        call.hide = None
        call.hook.failed("question", error)
        return None


class Question(asking.Question):
    """One request's change."""

    def __init__(self, call: Call, host: str, request: Any, body: bytes) -> None:
        super().__init__(call, host)
        self._request = request
        self._before = request.body
        self._after = body
        # Bytes that are not compressed can be shown without the extra chunk to every kind of reader.
        self._headers = {"Content-Length": str(len(body)), "Accept-Encoding": "identity"}
        self._kept: Dict[str, Optional[str]] = {}

    def send(self, original: Callable[..., Any], session: Any, request: Any, kwargs: Any) -> Any:
        self.put()
        try:
            response = original(session, request, **kwargs)
        finally:
            self.take_back()
        if self.refused(response.status_code):
            response.close()
            response = original(session, request, **kwargs)
            self.answered(response.status_code)
        return response

    def put(self) -> None:
        """The request asks."""
        try:
            headers = self._request.headers
            for name, value in self._headers.items():
                self._kept[name] = headers.get(name)
                headers[name] = value
            self._request.body = self._after
        except Exception as error:
            self._call.hook.failed("put", error)
            self.take_back()

    def take_back(self) -> None:
        """The request is the caller's again."""
        try:
            headers = self._request.headers
            self._request.body = self._before
            while self._kept:
                name, value = self._kept.popitem()
                if value is None:
                    headers.pop(name, None)
                else:
                    headers[name] = value
        except Exception as error:
            self._call.hook.failed("take_back", error)
