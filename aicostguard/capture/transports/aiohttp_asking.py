"""aiohttp under `AICG_STREAM_USAGE=request`: arguments that ask, and a reader's buffer without the extra chunk.

Owns the arguments of a request (the caller's own objects are copied, never changed) and a buffer that keeps what was
asked for out of the reader and its sizes right. Stays off, and is counted as such, where the session hands out bytes as
they came, compresses what it sends, or gives the length itself. Loaded only when opted in.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Iterable, Mapping, Optional

from aicostguard.capture import asking
from aicostguard.capture.call import Call
from aicostguard.capture.patch import Hook
from aicostguard.capture.tap import Tap
from aicostguard.capture.transports.aiohttp import TappedDeque
from aicostguard.health import health


def question(hook: Hook, call: Call, session: Any, target: Any, kwargs: Dict[str, Any]) -> Optional[Question]:
    """How this request is sent so that it asks, or None when it stays as it is. Never raises."""
    try:
        host = str(session._build_url(target).host)
        if not asking.wanted(call, host):
            return None
        header = _headers(session, kwargs).get
        automatic = kwargs.get("auto_decompress", getattr(session, "_auto_decompress", True))
        if not automatic or kwargs.get("compress") or header("content-length") is not None:
            health.note("not_asked: aiohttp's own length or encoding")
            return None
        more = _arguments(call, kwargs, header)
        return None if more is None else Question(call, host, {**kwargs, **more})
    except Exception as error:
        call.hide = None
        hook.failed("question", error)
        return None


def _headers(session: Any, kwargs: Dict[str, Any]) -> Dict[str, str]:
    found: Dict[str, str] = {}
    for given in (getattr(session, "headers", None), kwargs.get("headers")):
        pairs: Any = given.items() if isinstance(given, Mapping) else given or ()
        found.update((str(name).lower(), str(value)) for name, value in pairs)
    return found


def _arguments(call: Call, kwargs: Dict[str, Any], header: Callable[[str], Optional[str]]) -> Optional[Dict[str, Any]]:
    given, data = kwargs.get("json"), kwargs.get("data")
    if type(given) is dict:
        wanted = asking.members(call, given, header)
        return None if wanted is None else {"json": wanted}
    if isinstance(data, str):
        data = data.encode()
    body = asking.body(call, bytes(data) if isinstance(data, (bytes, bytearray)) else None, header)
    return None if body is None else {"data": body}


class Question(asking.Question):
    """One request with arguments that ask."""

    def __init__(self, call: Call, host: str, kwargs: Dict[str, Any]) -> None:
        super().__init__(call, host)
        self._kwargs = kwargs

    async def send(self, original: Callable[..., Any], session: Any, args: Any, kwargs: Dict[str, Any]) -> Any:
        try:
            response = await original(session, *args, **self._kwargs)
            if not self.refused(response.status):
                return response
            response.release()
        except Exception as error:  # a session with `raise_for_status` tells of a refusal in this way
            if not self.refused(getattr(error, "status", None)):
                raise
        response = await original(session, *args, **kwargs)
        self.answered(response.status)
        return response


class HidingDeque(TappedDeque):
    """A reader's buffer into which only what may be seen is put. The reader's own counts are put right."""

    __slots__ = ("_hide", "_reader")

    def __init__(self, tap: Tap, reader: Any, hide: asking.Answer) -> None:
        self._hide = hide
        self._reader = reader
        arrived: Iterable[bytes] = reader._buffer
        super().__init__(tap, ())
        before = after = 0
        places = {0: 0}
        for data in arrived:
            self._tell(data)
            shown = hide.show(bytes(data))
            before, after = before + len(data), after + len(shown)
            places[before] = after
            if shown:
                super(TappedDeque, self).append(shown)
        self._resize(after - before)
        splits = reader._http_chunk_splits
        if splits:
            moved = sorted({places[split] for split in splits if split in places})
            splits.clear()
            splits.extend(moved)

    def append(self, data: bytes) -> None:
        self._tell(data)
        shown = self._hide.show(bytes(data))
        try:
            self._resize(len(shown) - len(data))
        except Exception as error:
            self.tap.call.lost("append", error)
        if shown:
            super(TappedDeque, self).append(shown)

    def end(self) -> None:
        """No more bytes will come: what was held back is seen."""
        try:
            rest = self._hide.rest()
            if rest:
                super(TappedDeque, self).append(rest)  # before what may fail
                self._resize(len(rest))
        except Exception as error:
            self.tap.call.hook.failed("end", error)

    def _resize(self, by: int) -> None:
        self._reader._size += by
        self._reader.total_bytes += by
