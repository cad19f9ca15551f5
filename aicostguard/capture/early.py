"""Was an exception raised before anything of a request went out, by a hook of the user's own?

Owns the reading of a traceback for that: libraries call such hooks in functions of known names. Where they do not look
so, nobody knows, and what a call holds of a budget is booked.
"""

from __future__ import annotations

from types import FrameType
from typing import Any, Callable, Iterator, Optional

#: what aiohttp calls a `TraceConfig` with, up to the moment at which the request is written
_TRACED = (
    "send_request_start",
    "send_connection_queued_start",
    "send_connection_queued_end",
    "send_connection_create_start",
    "send_connection_create_end",
    "send_connection_reuseconn",
    "send_dns_resolvehost_start",
    "send_dns_resolvehost_end",
    "send_dns_cache_hit",
    "send_dns_cache_miss",
)


def traced(error: Optional[BaseException]) -> bool:
    """By a trace of an aiohttp session?"""
    return _passed(error, "aiohttp.tracing", lambda frame: frame.f_code.co_name in _TRACED)


def hooked(error: Optional[BaseException]) -> bool:
    """By a hook of a niquests session?"""
    return _passed(error, "niquests.hooks", lambda frame: frame.f_locals.get("key") in ("pre_request", "pre_send"))


def _passed(error: Optional[BaseException], module: str, which: Callable[[FrameType], Any]) -> bool:
    return any(frame.f_globals.get("__name__") == module and which(frame) for frame in _frames(error))


def _frames(error: Optional[BaseException]) -> Iterator[FrameType]:
    trace = None if error is None else error.__traceback__
    while trace is not None:
        yield trace.tb_frame
        trace = trace.tb_next
