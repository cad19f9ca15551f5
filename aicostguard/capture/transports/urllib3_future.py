"""The tap on responses of urllib3-future, which niquests brings, and which takes the place of urllib3 for everybody.

It keeps urllib3's names, but every byte passes `_fp_read`, chunked or not, and what is not compressed is never given to
`_decode`. So `_fp_read` alone is hooked, on the class, and compressed bytes are decoded here. The asynchronous class
differs in the `await`.
"""

from __future__ import annotations

from typing import Any, Callable, Optional

from aicostguard.capture.patch import Rows, watch
from aicostguard.capture.tap import TAP, Tap, ends_tap


def is_future(raw: Any) -> bool:
    """Is this a response of urllib3-future?"""
    return all(hasattr(raw, name) for name in ("_fp_read", "_police_officer", "release_conn", "__dict__"))


def tap(raw: Any, tapped: Tap) -> bool:
    """Put the tap into an unread response. False when it is none of urllib3-future."""
    if not is_future(raw):
        return False
    tapped.decoding = False
    watch(tapped.call.hook, type(raw), _ASYNC if _is_async(type(raw)) else _SYNC)
    raw.__dict__[TAP] = tapped
    return True


def _is_async(kind: type) -> bool:
    return any("Async" in base.__name__ for base in kind.__mro__)


def _fp_read(original: Callable[..., Any]) -> Callable[..., Any]:
    def _fp_read(self: Any, *args: Any, **kwargs: Any) -> Any:
        tapped: Optional[Tap] = self.__dict__.get(TAP)
        if tapped is None:
            return original(self, *args, **kwargs)
        if tapped.call.cut is not None:
            self.close()
            raise tapped.call.cut
        try:
            data = original(self, *args, **kwargs)
        except BaseException:
            tapped.end(False)
            raise
        _arrived(self, tapped, data)
        return data

    return _fp_read


def _afp_read(original: Callable[..., Any]) -> Callable[..., Any]:
    async def _fp_read(self: Any, *args: Any, **kwargs: Any) -> Any:
        tapped: Optional[Tap] = self.__dict__.get(TAP)
        if tapped is None:
            return await original(self, *args, **kwargs)
        if tapped.call.cut is not None:
            await self.close()
            raise tapped.call.cut
        try:
            data = await original(self, *args, **kwargs)
        except BaseException:
            tapped.end(False)
            raise
        _arrived(self, tapped, data)
        if tapped.call.outbox:
            await tapped.call.drain()
        return data

    return _fp_read


def _arrived(raw: Any, tapped: Tap, data: bytes) -> None:
    try:
        tapped.raw(bytes(data))
        left = raw.length_remaining  # these bytes are not taken off yet
        if not data or raw._fp.closed:
            tapped.end(left is None or left <= len(data))
    except Exception as error:
        tapped.call.lost("arrived", error)


def _aclose(original: Callable[..., Any]) -> Callable[..., Any]:
    async def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        tapped: Optional[Tap] = self.__dict__.get(TAP)
        try:
            return await original(self, *args, **kwargs)
        finally:
            if tapped is not None:
                tapped.end(False)

    return close


_SYNC: Rows = (("_fp_read", _fp_read), ("close", ends_tap))
_ASYNC: Rows = (("_fp_read", _afp_read), ("close", _aclose))
