"""May this call be sent? The way from a call to the gate, and of the gate's answers back.

Owns `Hold`: what one call holds of a budget, answered exactly once, whatever becomes of the call. And it owns who gets
a refusal: an entry hook or an exit that stands above on this thread gets `Refused`, which passes through an SDK's
retries; where nobody stands there, the error itself is raised at once. In a thread that a library made nobody does:
whoever waits for it may never hear of what is no `Exception`.

An attempt that billed nothing leaves its hold to the next one of the same logical call; one of which nobody knows
books all that it held, and the next one asks anew. Nothing here is called while no gate is set. If it breaks, budgets
keep what is not spent, or a refusal comes out as a connection error.
"""

from __future__ import annotations

from _thread import get_ident
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Optional, Sequence

from aicostguard import context
from aicostguard.capture import forks
from aicostguard.capture.gate import Gate, Refused
from aicostguard.capture.state import state
from aicostguard.health import health, oldest
from aicostguard.metering.formats import RETRIEVALS
from aicostguard.metering.table import RESULTS
from aicostguard.receipt import Receipt
from aicostguard.usage import Reading

if TYPE_CHECKING:
    from aicostguard.capture.call import Call

#: answers that are fetched: what they tell of was asked for when it was begun, or by another process
_FETCHED = frozenset((*RETRIEVALS, *RESULTS))
#: responses that have begun and are not finished, whose holds are kept by their ids
MOST_PENDING = 4096
_pending: Dict[str, Hold] = {}

#: exceptions that say that nothing was sent, by their package and name
_UNSENT = {
    "httpx": ("ConnectError", "ConnectTimeout", "PoolTimeout", "ProxyError", "UnsupportedProtocol", "InvalidURL"),
    "aiohttp": ("ClientConnectorError", "ConnectionTimeoutError", "InvalidURL"),
    "requests": ("ConnectTimeout", "InvalidURL", "InvalidSchema", "MissingSchema"),
    "urllib3": ("NewConnectionError", "ConnectTimeoutError", "NameResolutionError", "LocationValueError"),
    "socket": ("gaierror",),
    "ssl": ("SSLCertVerificationError",),
    "builtins": ("ConnectionRefusedError",),
}
_ALIKE = {"httpx2": "httpx", "niquests": "requests", "urllib3_future": "urllib3"}
#: curl's own numbers: no proxy, no host, no connection (https://curl.se/libcurl/c/libcurl-errors.html)
_CURL_UNSENT = (5, 6, 7)
#: what urllib3 says when the last of its tries was answered with a status that its caller wants no answer with
_TOO_MANY = "too many %d error responses"
#: how far an exception is followed to what caused it
_DEPTH = 6


class Hold:
    """What one call holds. The first of its answers counts; one that is dropped without any answers for itself.

    `free` is true while it is certain that nothing of what it stands for was billed. A forked child's copy says nothing
    when it is dropped.
    """

    __slots__ = ("gate", "free", "watch", "_ticket", "_born")

    def __init__(self, gate: Gate, ticket: Any) -> None:
        self.gate = gate
        self.free = False
        #: the stream of this call may have to be cut: `passing` wants to see its bytes
        self.watch = bool(getattr(ticket, "watch", False))
        # Taking the ticket out is the one step that makes it one answer, on whatever thread.
        self._ticket: List[Any] = [ticket]
        self._born = forks.count

    def settle(self, receipts: Sequence[Receipt]) -> None:
        """What the call has used is on these receipts."""
        self._answer("settle", receipts)

    def release(self) -> None:
        """Nothing was billed."""
        self._answer("release")

    def lost(self) -> None:
        """Nobody knows what was billed."""
        self._answer("lost")

    def passing(self, call: Call, data: bytes) -> Optional[BaseException]:
        """Bytes of a stream have come; an error when it has to be cut."""
        try:
            ticket = self._ticket[0]
        except IndexError:  # answered
            return None
        return self.gate.passing(ticket, call, data)

    def _answer(self, name: str, *values: Any) -> None:
        try:
            ticket = self._ticket.pop()
        except IndexError:
            return
        try:
            getattr(self.gate, name)(ticket, *values)
        except Exception as error:
            health.fault("permit." + name, error)

    def __del__(self) -> None:
        try:
            if getattr(self, "_ticket", None) and self._born == forks.count:
                self._answer("release" if self.free else "lost")
        except Exception as error:
            health.fault("permit.del", error)


#: of a call that was refused: there is nothing to answer
REFUSED: Any = Hold.__new__(Hold)
REFUSED._ticket = []


def ask(call: Call) -> None:
    """Before anything of `call` is sent. Raises when it may not be: see the module."""
    try:
        gate = state.gate
        if gate is not None and _may_bill(call) and not _kept(call):
            call.hold = Hold(gate, gate.ask(call))
    except Refused as refused:
        call.hold = REFUSED
        raise outward(refused, call.logical, context.exit.get()) from None
    except Exception as error:
        call.hook.failed("ask", error)


async def aask(call: Call) -> None:
    """As `ask`, without blocking the loop."""
    try:
        gate = state.gate
        if gate is not None and _may_bill(call) and not _kept(call):
            call.hold = Hold(gate, await gate.aask(call))
    except Refused as refused:
        call.hold = REFUSED
        raise outward(refused, call.logical, context.exit.get()) from None
    except Exception as error:
        call.hook.failed("ask", error)


def _may_bill(call: Call) -> bool:
    try:
        return call.endpoint.bills and call.endpoint.format not in _FETCHED
    except Exception as error:
        call.hook.failed("may_bill", error)
        return False


def _kept(call: Call) -> bool:
    """Take over what an attempt before this one has left."""
    try:
        logical = call.logical
        if logical is None or not isinstance(logical.hold, Hold):
            return False
        call.hold, logical.hold = logical.hold, None
        call.hold.free = False
        return True
    except Exception as error:
        call.hook.failed("kept", error)
        return False


#: on an error that was raised for a refusal: an exit knows it by this, whatever has been made of it since
RAISED = "_aicostguard_raised"


def outward(refused: Refused, *above: Optional[context.Logical]) -> BaseException:
    """What to raise: the refusal where one of those above, on this thread, turns it into the error; else the error."""
    here = get_ident()
    for each in above:
        if each is not None and each.thread == here and each.hold is not context.OVER:
            return refused
    refused.error.__dict__[RAISED] = True
    return refused.error


def left(previous: Optional[context.Logical]) -> None:
    """The logical call in force here, inside `previous`, has ended: what its last attempt has left is free.

    Never raises.
    """
    try:
        logical = context.logical.get()
        if logical is not None and logical is not previous:
            hold, logical.hold = logical.hold, context.OVER
            if isinstance(hold, Hold):
                hold.release()
    except Exception as error:
        health.fault("permit.left", error)


def nothing(call: Call) -> None:
    """This attempt billed nothing, for certain. Never raises."""
    try:
        hold, call.hold = call.hold, None
        logical = call.logical
        if hold is None:
            return
        if logical is None or logical.hold is not None:
            hold.release()
        else:
            hold.free = True
            logical.hold = hold
    except Exception as error:
        health.fault("permit.nothing", error)


def lost(call: Call) -> None:
    """Nobody knows what this attempt billed. Never raises."""
    try:
        hold, call.hold = call.hold, None
        if hold is not None:
            hold.lost()
    except Exception as error:
        health.fault("permit.lost", error)


def broken(call: Call, error: Optional[BaseException], sent: Any = None) -> None:
    """This attempt ended in `error` before its response was seen. `sent` is the library's own request. Never raises."""
    (nothing if unsent(error) or declined(error, sent) else lost)(call)


def again(call: Call, error: Optional[BaseException]) -> None:
    """The transport itself tries once more, after `error`, or after an answer that bills nothing (None)."""
    if call.hold is not None and error is not None and not unsent(error):
        lost(call)
        ask(call)


def unsent(error: Optional[BaseException]) -> bool:
    """Does this exception say that no connection was made? Never raises."""
    return _says(error, _says_unsent)


def declined(error: Optional[BaseException], sent: Any = None) -> bool:
    """Does this exception say that the answer to this very request was no success? Never raises.

    So it is where a session, its hook or its retries raise for a status. A hook may ask somebody else, too: what is
    said of another request says nothing of this one.
    """
    return _says(error, lambda each: _says_declined(each, sent))


def _says(error: Optional[BaseException], what: Callable[[BaseException], bool]) -> bool:
    try:
        for _ in range(_DEPTH):
            if error is None:
                return False
            if what(error):
                return True
            error = _cause(error)
        return False
    except Exception as fault:
        health.fault("permit.says", fault)
        return False


def _says_declined(error: BaseException, sent: Any) -> bool:
    response = getattr(error, "response", None)
    asked = getattr(error, "request_info", None)
    if sent is None:
        status: Any = None
    elif asked is not None:  # aiohttp
        status = getattr(error, "status", None) if (asked.method, str(asked.url)) == sent else None
    else:  # httpx, requests
        status = getattr(response, "status_code", None) if getattr(response, "request", None) is sent else None
    if type(error).__name__ == "ResponseError":  # of urllib3, whose own tries are all to one place
        return any(error.args == (_TOO_MANY % code,) for code in range(400, 600))
    return isinstance(status, int) and 300 <= status < 600


def _says_unsent(error: BaseException) -> bool:
    if type(error).__module__.startswith("curl_cffi"):
        return getattr(error, "code", None) in _CURL_UNSENT
    for kind in type(error).__mro__:
        package = kind.__module__.partition(".")[0]
        if kind.__name__ in _UNSENT.get(_ALIKE.get(package, package), ()):
            return True
    return False


def _cause(error: BaseException) -> Optional[BaseException]:
    for value in (error.__cause__, getattr(error, "reason", None), *error.args[:1]):
        if isinstance(value, BaseException):
            return value
    return None


def passed(call: Call, data: bytes) -> None:
    """Bytes of a stream that may have to be cut. Never raises: whoever reads it further does."""
    try:
        error = None if call.hold is None else call.hold.passing(call, data)
        if error is not None:
            call.cut = error
            call.end(False)
    except Exception as fault:
        health.fault("permit.passed", fault)


def settle(call: Call, readings: Sequence[Reading], receipts: Sequence[Receipt]) -> None:
    """The receipts of this call are made. Never raises.

    A response that has only begun keeps its hold until it is fetched, finished, in this process.
    """
    try:
        hold, call.hold = call.hold, None
        if hold is None:
            hold = _begun(readings)
        elif not receipts and _begins(readings, hold):
            return
        if hold is not None and readings and all(reading.void for reading in readings):
            hold.release()
        elif hold is not None:
            hold.settle(receipts)
        elif receipts and state.gate is not None:
            state.gate.settle(None, receipts)
    except Exception as error:
        health.fault("permit.settle", error)


def _begins(readings: Sequence[Reading], hold: Hold) -> bool:
    for reading in readings:
        ids = [name for name in (reading.response_id, reading.also) if name]
        if reading.pending and ids:
            while len(_pending) >= MOST_PENDING:
                let_go = _pending.pop(oldest(_pending) or "", None)
                if let_go is not None:
                    let_go.lost()
            _pending.update(dict.fromkeys(ids, hold))
            return True
    return False


def _begun(readings: Sequence[Reading]) -> Optional[Hold]:
    for reading in readings:
        hold = None if reading.pending else _pending.pop(reading.response_id or "", None)
        if hold is not None:
            return hold
    return None
