"""`AICG_STREAM_USAGE=request`, as every transport needs it: may this request be changed, and was that a good idea?

Owns the decision and what was learned about hosts. The transports own how a request is changed for the time of its
sending, and how the response's bytes are shown. Off by default; then nothing here is called. If it breaks, a program
that opted in has requests that a provider refuses.
"""

from __future__ import annotations

from typing import Callable, Dict, Optional

from aicostguard.capture.call import Call
from aicostguard.capture.state import state
from aicostguard.health import health
from aicostguard.metering.ask import Hidden, asking, signed, worth_asking

#: answers of a server that does not know `stream_options`
REFUSALS = (400, 422)
MAX_HOSTS = 512

#: host → does it take the question? Absent: not known yet
_hosts: Dict[str, bool] = {}


def wanted(call: Call, host: str) -> bool:
    """True when this call is of a kind to be asked for its usage. Cheap: nothing is parsed."""
    return state.ask and worth_asking(call.endpoint) and _hosts.get(host, True)


def body(call: Call, given: Optional[bytes], header: Callable[[str], Optional[str]]) -> Optional[bytes]:
    """The request's body that asks; None when the request stays as it is. Prepares the hiding of the answer."""
    if given is None:
        health.note("not_asked: body not at hand")
        return None
    if signed(header):
        health.note("not_asked: signed or encoded")
        return None
    asked = asking(given)
    if asked is not None:
        hide(call)
    return asked


def hide(call: Call) -> None:
    """What comes because of us is not shown."""
    call.hide = Hidden()
    health.note("usage_asked")


def refused(call: Call, host: str, status: int) -> bool:
    """True when the request has to be sent again as it was: the server may not know the question."""
    if status in REFUSALS and host not in _hosts:
        call.hide = None
        return True
    if 200 <= status < 300:
        _learn(host, True)
    return False


def answered(host: str, status: int) -> None:
    """The same request without the question has this answer: if it is a good one, the question was the trouble."""
    if 200 <= status < 300:
        _learn(host, False)
        health.warn(
            "stream-usage-refused",
            "aicostguard: a server refuses stream_options, so AICG_STREAM_USAGE=request does not ask it; streams from "
            "there have no usage.",
        )


def show(call: Call, data: bytes) -> bytes:
    """What the caller may see of decoded bytes. Never raises."""
    hidden: Optional[Hidden] = call.hide
    if hidden is None:
        return data
    try:
        return hidden.show(data)
    except Exception as error:
        call.hide = None
        call.hook.failed("show", error)
        return data


def rest(call: Call) -> bytes:
    """What was held back, at the end. Never raises."""
    hidden: Optional[Hidden] = call.hide
    try:
        return b"" if hidden is None else hidden.rest()
    except Exception as error:
        call.hook.failed("rest", error)
        return b""


def _learn(host: str, takes: bool) -> None:
    if len(_hosts) < MAX_HOSTS:
        _hosts[host] = takes
