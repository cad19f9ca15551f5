"""Counters on a Redis or Valkey server, for processes of many machines.

Owns the connection, and the one hash tag that keeps all of a policy's keys on one node of a cluster. A step is one
script (`scripts`), which may be sent twice when its answer was lost. Needs the extra `guard` (the package `redis`),
loaded when the first step is taken.

    redis://host:6379/0   rediss://… (TLS)   unix:///path   valkey://…   redis+cluster://…   rediss+cluster://…

How safe what was acknowledged is, is the server's `appendonly` setting. Each step waits a quarter of a second at most;
a server that does not answer is not asked again for a second.
"""

from __future__ import annotations

import hashlib
import os
import threading
import time
from typing import Any, Dict, List, Mapping, NoReturn, Optional, Sequence, Tuple

from aicostguard.guard.store import LATE_MS, Answer, Balance, Busy, Counter, Held, Refusal, StoreFailed
from aicostguard.guard.store.scripts import EXPIRE, GROW, ONCE, READ, REBUILD, RESERVE, SETTLE, Script

#: seconds for connecting, and for each answer
TIMEOUT = 0.25
#: seconds in which a server that failed is not asked
PAUSE = 1.0
#: leases looked at in one script: it stops the server meanwhile
AT_ONCE = 500


def _mark() -> str:
    """Tells one question from every other: the client sends it once more by itself, with the same mark."""
    return os.urandom(9).hex()


class RedisStore:
    """The store of one server or cluster, under the name that a policy's processes share. See `Store`."""

    waits = True

    def __init__(self, url: str, name: str = "default", timeout: float = TIMEOUT) -> None:
        self._url = url
        self._base = "aicg:{%s}:" % hashlib.sha256(name.encode()).hexdigest()[:16]
        self._timeout = timeout
        self._lock = threading.Lock()
        self._client: Any = None
        self._errors: Tuple[Any, ...] = ()
        self._away = 0.0
        self._inside = threading.local()

    def reserve(
        self, ticket: str, counters: Sequence[Counter], amounts: Sequence[int], now: int, lease: int, wait: bool = True
    ) -> Answer:
        rows: List[Any] = [ticket, now, lease, len(counters)]
        for (key, limit, hard, look, until), amount in zip(counters, amounts):
            rows += (key, limit, 1 if hard else 0, look, until, amount)
        answer = self._run(RESERVE, rows, wait)
        if answer[0] == b"full":
            return Refusal(int(answer[1]), int(answer[2]), int(answer[3]))
        held = tuple(int(amount) for amount in answer[1 : len(counters) + 1])
        lines = (line.split() for line in answer[len(counters) + 1 :])
        return Held(held, tuple((int(n), int(spent), int(reserved)) for n, spent, reserved in lines))

    def grow(
        self, ticket: str, counters: Sequence[Counter], more: Sequence[int], now: int, lease: int, wait: bool = True
    ) -> bool:
        rows: List[Any] = [ticket, now, lease, len(counters), _mark()]
        for counter, amount in zip(counters, more):
            rows += (counter.limit, 1 if counter.hard else 0, amount)
        return bool(self._run(GROW, rows, wait))

    def settle(
        self,
        ticket: str,
        keys: Sequence[str],
        amounts: Sequence[Optional[int]],
        estimated: bool,
        now: int,
        wait: bool = True,
    ) -> Optional[Tuple[int, ...]]:
        used = ["" if amount is None else amount for amount in amounts]
        answer = self._run(SETTLE, [ticket, now, 1 if estimated else 0, len(used), *used], wait)
        return None if answer is None else tuple(int(spent) for spent in answer)

    def release(self, ticket: str, keys: Sequence[str], now: int, wait: bool = True) -> bool:
        # A call that has used nothing, and about which that is known.
        return self.settle(ticket, keys, [0] * len(keys), False, now, wait) is not None

    def expire(self, now: int, wait: bool = True) -> int:
        booked = last = int(self._run(EXPIRE, [now, LATE_MS, AT_ONCE], wait))
        while last == AT_ONCE:
            last = int(self._run(EXPIRE, [now, LATE_MS, AT_ONCE], wait))
            booked += last
        return booked

    def once(self, key: str, until: int, now: int, wait: bool = True) -> bool:
        return bool(self._run(ONCE, [key, until, now, _mark()], wait))

    def read(self, prefix: str, now: int) -> List[Balance]:
        rows = self._run(READ, [prefix, now], True)
        return [Balance(key.decode(), *(int(number) for number in numbers)) for key, *numbers in rows]

    def rebuild(self, spent: Mapping[str, int], counters: Sequence[Counter], now: int) -> None:
        rows: List[Any] = []
        for counter in counters:
            rows += (counter.key, spent[counter.key], counter.until)
        if rows:
            self._run(REBUILD, rows, True)

    # -- the server

    def _run(self, script: Script, values: Sequence[Any], wait: bool) -> Any:
        # A finaliser that settles while this thread is within the client, which has locks of its own, is turned away.
        if not wait or getattr(self._inside, "busy", False):
            raise Busy
        if time.monotonic() < self._away:
            raise StoreFailed("the server does not answer")
        self._inside.busy = True
        try:
            client = self._connect()
            try:
                return client.evalsha(script.sha, 1, self._base, *values)
            except self._errors[0]:  # the server is new, or was restarted
                return client.eval(script.text, 1, self._base, *values)
        except StoreFailed:
            raise
        except Exception as error:
            self._failed(error)
        finally:
            self._inside.busy = False

    def _failed(self, error: Exception) -> NoReturn:
        """Its kind and no more: the text of an error may hold the address with its password."""
        if self._errors and not isinstance(error, (OSError, *self._errors)):
            raise error
        self._away = time.monotonic() + PAUSE
        raise StoreFailed(type(error).__name__) from None

    def _connect(self) -> Any:
        if self._client is None:
            with self._lock:
                if self._client is None:
                    self._client = self._made()
        return self._client

    def _made(self) -> Any:
        try:
            import redis
            from redis.backoff import NoBackoff
            from redis.retry import Retry
        except ImportError:
            raise StoreFailed("no package redis: pip install 'aicostguard[guard]'") from None
        self._errors = (redis.exceptions.NoScriptError, redis.exceptions.RedisError)
        scheme, _, rest = self._url.partition("://")
        kind, _, cluster = scheme.replace("valkeys", "rediss").replace("valkey", "redis").partition("+")
        url = "%s://%s" % (kind, rest)
        words: Dict[str, Any] = {"socket_timeout": self._timeout, "socket_connect_timeout": self._timeout}
        # Once more on a connection that the server has closed meanwhile: every script may be sent twice.
        retry = Retry(NoBackoff(), 1)
        if cluster:
            return redis.RedisCluster.from_url(url, retry=retry, **words)
        return redis.Redis.from_url(url, retry=retry, **words)

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()
