"""Answers that were paid for before, played off a cassette: vcrpy's, and what stands on it (pytest-recording).

Owns the hook on the one function by which a cassette plays. It tells the call in whose transport it runs; where vcrpy
stands above a transport (aiohttp, tornado, http.client), the call never begins. A recording is a call like any other:
vcrpy calls the methods that it found when it was imported, so those are hooked, too, where it stands above us. If this
is wrong, each run of a test suite bills its cassettes again, or their recording is not counted.
"""

from __future__ import annotations

from functools import partial
from types import ModuleType
from typing import Any, Callable, Dict

from aicostguard import context
from aicostguard.capture.call import Call
from aicostguard.capture.patch import Hook, replace

Make = Callable[[Callable[..., Any], Hook], Callable[..., Any]]


def install(module: ModuleType, hook: Hook) -> None:
    """Hook `vcr.cassette` or `vcr.patch`. Raises when `Cassette.play_response` is not where it was."""
    if module.__name__ == "vcr.cassette":
        replace(hook, module.Cassette, "play_response", _plays)
    else:
        for name, make in _KEPT.items():
            if hasattr(module, name):
                replace(hook, module, name, _given(make, hook))


def _given(make: Make, hook: Hook) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return lambda original: make(original, hook)


def _plays(original: Callable[..., Any]) -> Callable[..., Any]:
    def play_response(self: Any, *args: Any, **kwargs: Any) -> Any:
        played = original(self, *args, **kwargs)
        outer = context.inside.get()
        if isinstance(outer, Call):
            outer.replayed = True
        return played

    return play_response


def _aiohttp(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    from aicostguard.capture.transports import aiohttp

    return aiohttp._request(original, hook)


def _tornado(original: Callable[..., Any], hook: Hook, curl: bool) -> Callable[..., Any]:
    from aicostguard.capture.transports import tornado

    return tornado._fetch_impl(original, hook, curl)


#: where vcrpy keeps the method that a recording calls, and what hooks it
_KEPT: Dict[str, Make] = {
    "_AiohttpClientSessionRequest": _aiohttp,
    "_SimpleAsyncHTTPClient_fetch_impl": partial(_tornado, curl=False),
    "_CurlAsyncHTTPClient_fetch_impl": partial(_tornado, curl=True),
}
