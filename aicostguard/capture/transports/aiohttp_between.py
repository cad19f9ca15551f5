"""aiohttp's middlewares (3.12 and later): code of the user's own that stands between a session and the wire.

Owns one more middleware, the innermost, for requests that have any; so each answer is seen that really came. A
middleware may ask once more for an answer that did not please it (both are billed), hand out one that it has kept
(none is), or ask an AI provider itself, which is a call of its own. If this is wrong, one of these is billed wrongly.
Nothing here raises into a request but what a budget refuses.
"""

from __future__ import annotations

import copy
from time import perf_counter
from typing import Any, Awaitable, Callable, Dict, Optional

from aicostguard.capture import early, permit
from aicostguard.capture.call import Call

#: puts the tap into an answer
Tapped = Callable[[Call, Any], None]


def between(call: Call, session: Any, kwargs: Dict[str, Any], tap: Tapped) -> Optional[Between]:
    """What stands beneath the middlewares of this request, put into its arguments; None where it has none."""
    try:
        given = kwargs.get("middlewares")
        theirs = getattr(session, "_middlewares", None) if given is None else given
        if not theirs:
            return None
        made = Between(call, tap)
        kwargs["middlewares"] = (*theirs, made)
        return made
    except Exception as error:
        call.hook.failed("between", error)
        return None


class Between:
    """The innermost middleware of one request: counts what was asked, and taps what is billed."""

    def __init__(self, call: Call, tap: Tapped) -> None:
        self._call = call
        #: as the call is before it has done anything
        self._like = copy.copy(call)
        self._tap = tap
        self._asked = False
        #: how many answers were tapped
        self._tapped = 0
        #: the last answer, and what the last try was that ended in none
        self._answer: Any = None
        self._error: Optional[BaseException] = None

    async def __call__(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        if self._asked and self._again():
            await permit.aask(self._call)  # raises what a budget refuses, and nothing else
        self._asked, self._answer, self._error = True, None, None
        try:
            response = await handler(request)
        except BaseException as error:
            self._error = error
            raise
        self._came(response)
        return response

    def _again(self) -> bool:
        """It is asked once more: whether a budget is to be asked for that, too. Never raises."""
        call, error = self._call, self._error
        try:
            if self._tapped:
                return False
            call.again()
            if call.hold is None or error is None or permit.unsent(error):
                return False
            permit.lost(call)
            return True
        except Exception as fault:
            call.hook.failed("again", fault)
            return False

    def _came(self, response: Any) -> None:
        self._answer = response
        call = self._call
        try:
            if 200 <= response.status < 300:
                if self._tapped:
                    call = self._another()
                self._tapped += 1
                self._tap(call, response)
        except Exception as error:
            call.hook.failed("came", error)

    def _another(self) -> Call:
        """One more billed answer to the same request: a call like the first."""
        call = copy.copy(self._like)
        call.started = perf_counter()
        if call.logical is not None:
            call.logical.attempts += 1
        if self._call.hide is not None:
            from aicostguard.capture.asking import Answer

            call.hide = Answer(call.hook)
        return call

    def judge(self, response: Any) -> None:
        """The session has this answer. Never raises."""
        try:
            if not self._tapped:
                # Of the middlewares' own making, or kept from before: what came, if anything did, bills nothing.
                self._call.replayed = response is not self._answer
                self._tap(self._call, response)
        except Exception as error:
            self._call.hook.failed("judge", error)

    def interrupted(self, sent: Any) -> None:
        """The session has none. What was tapped ends by itself. Never raises."""
        try:
            if not self._tapped:
                self._call.interrupted(sent=sent, before=self._before)
        except Exception as error:
            self._call.hook.failed("interrupted", error)

    def _before(self, error: Optional[BaseException]) -> bool:
        return not self._asked or early.traced(error)
