"""A stream that may be cut: iterators that raise what cut it, at the next read, after the connection is closed.

Used only around streams whose most nobody knows, while a budget is in force; every other stream has none of this in its
way. What has come before the cut was handed out, and paid for.
"""

from __future__ import annotations

from typing import Any, Callable

from aicostguard.capture.call import Call


def may_be_cut(call: Call) -> bool:
    """Has this call's stream to be watched?"""
    return call.hold is not None and call.hold.watch


class SyncCut:
    """Around an iterator of pieces. `close` closes the connection."""

    __slots__ = ("_pieces", "_call", "_close")

    def __init__(self, pieces: Any, call: Call, close: Callable[[], Any]) -> None:
        self._pieces = pieces
        self._call = call
        self._close = close

    def __iter__(self) -> SyncCut:
        return self

    def __next__(self) -> bytes:
        if self._call.cut is not None:
            self._close()
            raise self._call.cut
        piece: bytes = next(self._pieces)
        return piece

    def close(self) -> None:
        self._pieces.close()


class AsyncCut:
    """The same for `async for`."""

    # `asend`, `athrow` and `aclose` are there because httpx2 closes what looks like an asynchronous generator.
    __slots__ = ("_pieces", "_call", "_close")

    def __init__(self, pieces: Any, call: Call, close: Callable[[], Any]) -> None:
        self._pieces = pieces
        self._call = call
        self._close = close

    def __aiter__(self) -> AsyncCut:
        return self

    async def __anext__(self) -> bytes:
        if self._call.cut is not None:
            await self._close()
            raise self._call.cut
        piece: bytes = await self._pieces.__anext__()
        return piece

    async def asend(self, value: Any) -> bytes:
        return await self.__anext__()

    async def athrow(self, *error: Any) -> Any:
        return await self._pieces.athrow(*error)

    async def aclose(self) -> None:
        await self._pieces.aclose()
