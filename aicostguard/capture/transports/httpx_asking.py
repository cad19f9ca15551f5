"""httpx and httpx2 under `AICG_STREAM_USAGE=request`: a request that asks while it is being sent.

Owns the change of the request and its undoing: the object is the caller's, so that the body, stream and two headers
that go out are put into it and taken back when the response's head is there. Bytes that are not compressed can be
shown without the extra chunk to every kind of reader; so the request asks for such, too. Loaded only when opted in.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable, Dict, Optional, Tuple

from aicostguard.capture import asking
from aicostguard.capture.call import Call
from aicostguard.capture.patch import Hook


def question(hook: Hook, module: ModuleType, call: Call, request: Any) -> Optional[Question]:
    """What is put into this request, or None when it stays as it is. Never raises."""
    try:
        host = request.url.host
        if not asking.wanted(call, host):
            return None
        content = getattr(request, "_content", None)
        body = asking.body(call, content if isinstance(content, bytes) else None, request.headers.get)
        return None if body is None else Question(call, host, request, module.ByteStream(body), body)
    except Exception as error:
        call.hide = None
        hook.failed("question", error)
        return None


class Question(asking.Question):
    """One request's change."""

    def __init__(self, call: Call, host: str, request: Any, stream: Any, body: bytes) -> None:
        super().__init__(call, host)
        self._request = request
        self._before: Tuple[Any, Any] = (request._content, request.stream)
        self._after: Tuple[Any, Any] = (body, stream)
        self._headers = {"content-length": str(len(body)), "accept-encoding": "identity"}
        self._kept: Dict[str, Optional[str]] = {}

    def send(self, original: Callable[..., Any], client: Any, request: Any, args: Any, kwargs: Any) -> Any:
        self.put()
        try:
            response = original(client, request, *args, **kwargs)
        finally:
            self.take_back()
        if self.refused(response.status_code):
            response.close()
            response = original(client, request, *args, **kwargs)
            self.answered(response.status_code)
        return response

    async def asend(self, original: Callable[..., Any], client: Any, request: Any, args: Any, kwargs: Any) -> Any:
        self.put()
        try:
            response = await original(client, request, *args, **kwargs)
        finally:
            self.take_back()
        if self.refused(response.status_code):
            await response.aclose()
            response = await original(client, request, *args, **kwargs)
            self.answered(response.status_code)
        return response

    def put(self) -> None:
        """The request asks."""
        try:
            request = self._request
            for name, value in self._headers.items():
                self._kept[name] = request.headers.get(name)
                request.headers[name] = value
            request._content, request.stream = self._after
        except Exception as error:
            self._call.hook.failed("put", error)
            self.take_back()

    def take_back(self) -> None:
        """The request is the caller's again."""
        try:
            request = self._request
            request._content, request.stream = self._before
            while self._kept:
                name, value = self._kept.popitem()
                if value is None:
                    del request.headers[name]
                else:
                    request.headers[name] = value
        except Exception as error:
            self._call.hook.failed("take_back", error)


class SyncPieces:
    """A stream's pieces as the caller sees them."""

    # `close` is there because httpx2 delegates to this iterator, and closes the one below when it is closed itself.
    __slots__ = ("_pieces", "_hide")

    def __init__(self, pieces: Any, hide: asking.Answer) -> None:
        self._pieces = pieces
        self._hide = hide

    def __iter__(self) -> SyncPieces:
        return self

    def __next__(self) -> bytes:
        while True:
            try:
                piece = self._pieces.__next__()
            except StopIteration:
                rest = self._hide.rest()
                if rest:
                    return rest
                raise
            shown = self._hide.show(piece)
            if shown:
                return shown

    def close(self) -> None:
        self._pieces.close()


class AsyncPieces:
    """The same for `async for`."""

    # `asend`, `athrow` and `aclose` are there because httpx2 closes what looks like an asynchronous generator.
    __slots__ = ("_pieces", "_hide")

    def __init__(self, pieces: Any, hide: asking.Answer) -> None:
        self._pieces = pieces
        self._hide = hide

    def __aiter__(self) -> AsyncPieces:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                piece = await self._pieces.__anext__()
            except StopAsyncIteration:
                rest = self._hide.rest()
                if rest:
                    return rest
                raise
            shown = self._hide.show(piece)
            if shown:
                return shown

    async def asend(self, value: Any) -> bytes:
        return await self.__anext__()

    async def athrow(self, *error: Any) -> Any:
        return await self._pieces.athrow(*error)

    async def aclose(self) -> None:
        await self._pieces.aclose()
