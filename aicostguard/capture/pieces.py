"""Iterators that tell a tap what passes: for libraries that hand out a body piece by piece.

Each gives exactly what the one inside it gives, and tells the tap the end: the last piece, or what was raised. Whoever
uses one tells the tap that a response was closed.
"""

from __future__ import annotations

from typing import Any

from aicostguard.capture.tap import Tap


class SyncPieces:
    """Around an iterable of bytes."""

    # `close` is there because httpx2 delegates to this iterator, and closes the one below when it is closed itself.
    __slots__ = ("_inner", "_next", "_see", "_glance", "_tap")

    def __init__(self, stream: Any, tap: Tap) -> None:
        self._inner = iter(stream)
        self._next = self._inner.__next__
        self._see = tap.see or tap.raw
        self._glance = tap.glance
        self._tap = tap

    def __iter__(self) -> SyncPieces:
        return self

    def __next__(self) -> bytes:
        try:
            chunk: bytes = self._next()
        except StopIteration:
            self._tap.end(True)
            raise
        except BaseException:
            self._tap.end(False)
            raise
        try:
            glance = self._glance
            if chunk.endswith(glance.ends):
                for mark in glance.marks:
                    if chunk.find(mark) >= 0:
                        break
                else:
                    return chunk
            self._see(chunk)
        except Exception as error:
            self._tap.call.lost("tap", error)
        return chunk

    def close(self) -> None:
        close = getattr(self._inner, "close", None)
        if close is not None:
            close()


class AsyncPieces:
    """Around an asynchronous iterable of bytes."""

    # `asend`, `athrow` and `aclose` are there because httpx2 closes what looks like an asynchronous generator.
    __slots__ = ("_inner", "_see", "_glance", "_tap")

    def __init__(self, stream: Any, tap: Tap) -> None:
        self._inner = stream.__aiter__()
        self._see = tap.see or tap.raw
        self._glance = tap.glance
        self._tap = tap

    def __aiter__(self) -> AsyncPieces:
        return self

    async def __anext__(self) -> bytes:
        tap = self._tap
        try:
            chunk: bytes = await self._inner.__anext__()
        except StopAsyncIteration:
            tap.end(True)
            if tap.call.outbox:
                await tap.call.drain()
            raise
        except BaseException:
            tap.end(False)
            raise
        try:
            glance = self._glance
            if chunk.endswith(glance.ends):
                for mark in glance.marks:
                    if chunk.find(mark) >= 0:
                        break
                else:
                    return chunk
            self._see(chunk)
        except Exception as error:
            tap.call.lost("tap", error)
        return chunk

    async def asend(self, value: Any) -> bytes:
        return await self.__anext__()

    async def athrow(self, *error: Any) -> Any:
        return await self._inner.athrow(*error)

    async def aclose(self) -> None:
        close = getattr(self._inner, "aclose", None)
        if close is not None:
            await close()
