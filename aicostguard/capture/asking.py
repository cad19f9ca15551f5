"""`AICG_STREAM_USAGE=request`, as every transport needs it: may this request be changed, and was that a good idea?

Owns the decision and what was learned about hosts. The transports own how a request is changed for the time of its
sending, and how the response's bytes are shown. Off by default; then nothing here is called. If it breaks, a program
that opted in has requests that a provider refuses.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any, Callable, Dict, Mapping, Optional

from aicostguard.capture.call import Call
from aicostguard.capture.patch import Hook
from aicostguard.capture.state import state
from aicostguard.health import health
from aicostguard.metering.ask import OPTIONS, Hidden, asking, options, signed, worth_asking

#: answers of a server that does not know `stream_options`
REFUSALS = (400, 422)
MAX_HOSTS = 512

#: host → does it take the question? Absent: not known yet
_hosts: Dict[str, bool] = {}


class Answer:
    """What the caller may see of the answer's decoded bytes. Fed in order; never raises."""

    __slots__ = ("_hidden", "_hook", "left")

    def __init__(self, hook: Hook) -> None:
        #: may be seen, but was more than the caller asked for: a transport's own note
        self.left = b""
        self._hook = hook
        self._hidden: Optional[Hidden] = Hidden()

    def show(self, data: bytes) -> bytes:
        """What may be seen now."""
        hidden = self._hidden
        if hidden is None:
            return data
        held = hidden.held
        try:
            return hidden.show(data)
        except Exception as error:
            self._hidden = None  # the caller sees all of it from here on, and loses nothing
            self._hook.failed("show", error)
            return held + data

    def rest(self) -> bytes:
        """What was held back, at the end."""
        hidden = self._hidden
        if hidden is None:
            return b""
        held = hidden.held
        try:
            return hidden.rest()
        except Exception as error:
            self._hook.failed("rest", error)
            return held


class Question:
    """One call that asks, on one host: what becomes of asking. A transport adds how it is sent."""

    def __init__(self, call: Call, host: str) -> None:
        self._call = call
        self._host = host

    def refused(self, status: object) -> bool:
        """True when the server may not know the question: then the request is sent again as it was."""
        try:
            return _refused(self._call, self._host, status)
        except Exception as error:
            self._call.hook.failed("refused", error)
            return False

    def answered(self, status: object) -> None:
        """The same request without the question has this answer: if it is good, the question was the trouble."""
        try:
            _answered(self._host, status)
        except Exception as error:
            self._call.hook.failed("answered", error)


def wanted(call: Call, host: str) -> bool:
    """True when this call is of a kind to be asked for its usage. Cheap: nothing is parsed."""
    return state.ask and worth_asking(call.endpoint) and _hosts.get(host, True)


def body(call: Call, given: Optional[bytes], header: Callable[[str], Optional[str]]) -> Optional[bytes]:
    """The request's body that asks; None when the request stays as it is. Prepares the hiding of the answer."""
    if given is None:
        health.note("not_asked: body not at hand")
        return None
    if b'"stream"' not in given:
        return None
    if signed(header):
        health.note("not_asked: signed or encoded")
        return None
    asked = asking(given)
    if asked is not None:
        hide(call)
    return asked


def members(call: Call, given: Mapping[str, Any], header: Callable[[str], Optional[str]]) -> Optional[Dict[str, Any]]:
    """The same for a body that is not written yet: a copy that asks, or None."""
    wanted = options(given)
    if wanted is None:
        return None
    if signed(header):
        health.note("not_asked: signed or encoded")
        return None
    hide(call)
    return {**given, OPTIONS: wanted}


def hide(call: Call) -> None:
    """What comes because of us is not shown."""
    call.hide = Answer(call.hook)
    health.note("usage_asked")


def _refused(call: Call, host: str, status: object) -> bool:
    if status in REFUSALS and host not in _hosts:
        call.hide = None
        call.started = perf_counter()  # the attempt that is billed begins now
        return True
    if _good(status):
        _learn(host, True)
    return False


def _answered(host: str, status: object) -> None:
    if _good(status):
        _learn(host, False)
        health.warn(
            "stream-usage-refused",
            "aicostguard: a server refuses stream_options, so AICG_STREAM_USAGE=request does not ask it; streams from "
            "there have no usage.",
        )


def _good(status: object) -> bool:
    return isinstance(status, int) and 200 <= status < 300


def _learn(host: str, takes: bool) -> None:
    if len(_hosts) < MAX_HOSTS:
        _hosts[host] = takes
