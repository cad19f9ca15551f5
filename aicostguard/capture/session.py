"""One session over a socket: long-lived, and billed turn by turn.

Owns `Session`, beside `call.Call`: each turn of a session is a call, begun when the client asks for it (or when the
server begins it by itself, as it does when it hears that the user has stopped speaking), with the labels and the
feature of whoever asked. Which message means what is known by `metering.live`. Every public method is called from the
middle of the user's own sending and receiving, so none of them raises. If this breaks, sessions go uncounted.
"""

from __future__ import annotations

import collections
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple

from aicostguard.capture import forks, permit
from aicostguard.capture.call import Call, begin
from aicostguard.capture.patch import Hook
from aicostguard.health import health
from aicostguard.metering.endpoints import SOCKET
from aicostguard.metering.live import BEGUN, OVER, Live, Step, live

#: requests that wait for their turn; a client that asks and asks must not fill the memory
MOST_ASKED = 64
MOST_TURNS = 512


class Session:
    """A recognised session. `waiting` are calls whose receipts have to be awaited (inline mode inside a loop)."""

    __slots__ = ("__weakref__", "hook", "waiting", "_live", "_opened", "_asked", "_turns", "_born", "_over")

    def __init__(self, opened: Call, reader: Live) -> None:
        self.hook = opened.hook
        self.waiting: List[Call] = []
        self._live = reader
        #: the call that is never made: what the session's opener said, for turns that nobody asks for
        self._opened = opened
        self._asked: Dict[str, Deque[Call]] = {}
        self._turns: Dict[str, Call] = {}
        self._born = forks.count
        self._over = False  # the last one: see `__del__`

    def sent(self, message: Any) -> Optional[Call]:
        """A whole message of the client, before it is on its way: the turn that it asks for, if it does.

        What is not text or bytes is left alone.
        """
        try:
            data = _whole(message)
            lane = None if data is None else self._live.sent(data)
            if lane is not None:
                asked = self._asked.get(lane)
                if asked is None:
                    asked = self._asked[lane] = collections.deque(maxlen=MOST_ASKED)
                call = self._begin(False)
                asked.append(call)
                return call
        except Exception as error:
            self._lost("sent", error)
        return None

    def received(self, message: Any) -> None:
        """A whole message of the server, before the user sees it."""
        try:
            data = _whole(message)
            if data is not None and not self._over:
                for step in self._live.received(data):
                    self._take(step)
        except Exception as error:
            self._lost("received", error)

    def received_parts(self, parts: List[Any]) -> None:
        """A message that the user took in fragments."""
        try:
            if parts:
                self.received(parts[0][:0].join(parts))
        except Exception as error:
            self._lost("parts", error)

    def end(self) -> None:
        """The session is closed, by either side, or gone. What had begun is billed as far as it is known."""
        if self._over:
            return
        self._over = True
        if self._born != forks.count:
            return  # a copy of the parent's: the parent ends it
        try:
            for step in self._live.left():
                self._take(step)
            self._turns.clear()
            self._asked.clear()
        except Exception as error:
            self._lost("end", error)

    async def drain(self) -> None:
        """Deliver what waits, without blocking the loop."""
        calls, self.waiting = self.waiting, []
        try:
            for call in calls:
                await call.drain()
        except Exception as error:
            self._lost("drain", error)

    def __del__(self) -> None:
        if hasattr(self, "_over"):  # else its start failed, and has been counted as a fault
            self.end()

    def _begin(self, unasked: bool) -> Call:
        opened, model = self._opened, self._live.model
        if model is not None and opened.endpoint.url_model != model:
            # A turn names no model: a budget of money has to know the session's.
            opened.endpoint = opened.endpoint._replace(url_model=model)
        call = Call(opened.hook, opened.endpoint, None, _no_body, opened.asynchronous)
        if unasked:
            call.labels, call.feature = opened.labels, opened.feature
        else:
            call.feature = call.feature or opened.feature  # sent by a task of an SDK's own
        return call

    def _take(self, step: Step) -> None:
        if step.what == OVER:
            call = self._turns.pop(step.key, None)
            if step.readings:
                call = call or self._of_lane(step.lane) or self._begin(True)
                call.take(step.readings)
                if call.outbox:
                    self.waiting.append(call)
            return
        if step.what == BEGUN and step.key in self._turns:
            return  # said again: it answers no second request
        asked = self._of_lane(step.lane)
        if step.what == BEGUN:
            if len(self._turns) >= MOST_TURNS:
                del self._turns[next(iter(self._turns))]
            self._turns[step.key] = asked or self._begin(True)
        elif asked is not None and asked.hold is not None:
            permit.nothing(asked)  # the server has refused the turn

    def _of_lane(self, lane: Optional[str]) -> Optional[Call]:
        asked = None if lane is None else self._asked.get(lane)
        while asked:
            call = asked.popleft()
            if call.hold is not permit.REFUSED:
                return call
        return None

    def _lost(self, where: str, error: Exception) -> None:
        """A fault of ours may have cost a turn its receipt. The session goes on: its next turn may fare better."""
        health.count("unmetered")
        self.hook.failed("session." + where, error)


def open_session(
    hook: Hook, host: str, port: Optional[int], target: str, asynchronous: bool = False
) -> Optional[Session]:
    """The session at this address, or None when it is no business of ours. `target`: path and query. Never raises."""
    try:
        path, _, query = target.partition("?")
        opened = begin(hook, SOCKET, host, port, path, _no_body, asynchronous)
        reader = None if opened is None else live(opened.endpoint, query)
        return None if opened is None or reader is None else Session(opened, reader)
    except Exception as error:
        hook.failed("session.open", error)
        return None


#: where a connection keeps its session, or None
KEPT = "_aicostguard_session"
_UNSEEN = object()

#: host, port, path with query
Address = Tuple[str, Optional[int], str]


def session_of(
    connection: Any, hook: Hook, asynchronous: bool, address: Callable[[Any], Optional[Address]]
) -> Optional[Session]:
    """The session that hangs on a connection, or None; looked up once. Never raises."""
    try:
        session: Any = connection.__dict__.get(KEPT, _UNSEEN)
        if session is _UNSEEN:
            where = address(connection)
            session = None if where is None else open_session(hook, *where, asynchronous)
            connection.__dict__[KEPT] = session
        return session  # type: ignore[no-any-return]
    except Exception as error:
        hook.failed("session", error)
        return None


def closing(original: Callable[..., Any]) -> Callable[..., Any]:
    """Of a connection's own closing: the session that hangs on it is over."""

    def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return original(self, *args, **kwargs)
        finally:
            session: Optional[Session] = self.__dict__.get(KEPT)
            if session is not None:
                session.end()

    return close


def aclosing(original: Callable[..., Any]) -> Callable[..., Any]:
    """The same for a coroutine method."""

    async def close(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return await original(self, *args, **kwargs)
        finally:
            session: Optional[Session] = self.__dict__.get(KEPT)
            if session is not None:
                session.end()
                if session.waiting:
                    await session.drain()

    return close


def _whole(message: Any) -> Any:
    if isinstance(message, (str, bytes)):
        return message
    # An iterable of fragments is the user's to consume, never ours.
    return bytes(message) if isinstance(message, (bytearray, memoryview)) else None


def _no_body() -> Optional[bytes]:
    return None
