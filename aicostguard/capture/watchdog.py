"""The watchdog (`AICG_WATCHDOG=1`): AI hosts whose names are looked up while nothing of ours sees a request to them.

Owns an audit hook on name look-ups, which sees them whichever library makes them. A host that is known to be an AI
provider's, or that `AICG_HOSTS` names, and to which no request was met within `GRACE` seconds or until the program
ends, is counted (`unmetered_host:…` in diagnose) and said once: there is a library that we do not hook. Opt-in,
because Python cannot take an audit hook out again. Blind where there is nothing to see: behind a proxy, which alone is
looked up; in libraries that resolve names in C of their own (curl, gRPC). If it breaks, nothing is noticed.
"""

from __future__ import annotations

import _thread
import os
import sys
from typing import Any, Callable, Dict, Optional, Set, Tuple
from urllib.parse import urlsplit

from aicostguard import health as our_health
from aicostguard.capture.state import state
from aicostguard.clock import clock
from aicostguard.health import health, oldest

#: seconds between a look-up and the request for which it was made
GRACE = 30.0
#: hosts that are remembered
MOST = 256
_EVENTS = ("socket.getaddrinfo", "socket.gethostbyname")


class Watchdog:
    """What was looked up, and what was met. `tell` is called when there is something new to show."""

    def __init__(self, ledger: Optional[str], tell: Callable[[], None]) -> None:
        parts = urlsplit(ledger or "")
        self._own = (parts.hostname, parts.port or (443 if parts.scheme == "https" else 80))
        self._tell = tell
        #: hosts that were met, the latest last
        self._met: Dict[str, None] = {}
        self._waiting: Dict[str, float] = {}
        self._said: Set[str] = set()
        self._running = _thread.allocate_lock()  # held by the thread while there is one; never waited for
        self.on = True

    def forked(self) -> None:
        """A child begins anew: what its parent looked up is the parent's to meet, and its thread is not here."""
        self._waiting.clear()
        self._running = _thread.allocate_lock()

    def met(self, host: str) -> None:
        """A request to this host went through one of our hooks."""
        self._waiting.pop(host, None)
        self._met.pop(host, None)
        self._met[host] = None
        if len(self._met) > MOST:  # the one that was met longest ago: most are nobody's that we know
            self._met.pop(oldest(self._met) or "", None)

    def heard(self, event: str, arguments: Tuple[Any, ...]) -> None:
        """The audit hook: called for every event of the interpreter."""
        if event not in _EVENTS or not self.on:
            return
        try:
            self._looked_up(arguments)
        except Exception as error:
            our_health.fault("watchdog.heard", error)

    def check(self, grace: float = 0.0) -> None:
        """Count what was looked up `grace` seconds ago or before, and not met since. Never raises."""
        try:
            now = clock.monotonic()
            late = [host for host, at in list(self._waiting.items()) if now - at >= grace]
            for host in late:
                self._waiting.pop(host, None)
                if self.on and host not in self._met and host not in self._said:
                    self._said.add(host)
                    self._report(host)
        except Exception as error:
            our_health.fault("watchdog.check", error)

    def _looked_up(self, arguments: Tuple[Any, ...]) -> None:
        host = arguments[0]
        if isinstance(host, (bytes, bytearray)):
            host = host.decode("ascii", "replace")
        if not isinstance(host, str) or len(self._waiting) >= MOST:
            return
        host = host.lower().rstrip(".")
        port = arguments[1] if len(arguments) > 1 else None
        if host in self._met or host in self._waiting or host in self._said or (host, port) == self._own:
            return
        if not _is_ai(host, port):
            return
        self._waiting[host] = clock.monotonic()
        self._start()

    def _start(self) -> None:
        # The package first, which brings both: to ask for what is in it, while another thread imports it, lets CPython
        # give that one a module that is not ready.
        from aicostguard.delivery import hosts, threads

        if self._running.acquire(False):
            try:
                if threads.subinterpreter() or hosts.about_to_fork():
                    raise RuntimeError("no thread of ours there")
                _thread.start_new_thread(self._wait, (self._running,))
            except RuntimeError:  # the interpreter ends, or may have none, and looks once more by itself
                self._running.release()

    def _wait(self, running: Any) -> None:
        from aicostguard.delivery import threads

        try:
            while self._waiting:
                threads.sleep(min(GRACE, 1.0))
                self.check(GRACE)
        finally:
            running.release()
        if self._waiting:  # looked up after the last look, by somebody who saw the thread running
            self._start()

    def _report(self, host: str) -> None:
        health.note("unmetered_host:%s" % host[:64])
        health.warn(
            "watchdog:" + host[:64],
            "aicostguard: %s was looked up, but no request to it was seen: a library that is not hooked may be calling "
            "it, and what it calls is not counted." % host[:64],
        )
        self._tell()


def _is_ai(host: str, port: object) -> bool:
    from aicostguard.metering.endpoints import is_ai_host

    number = port if isinstance(port, int) else int(port) if isinstance(port, str) and port.isdigit() else None
    return is_ai_host(host, number, state.hosts)


def install(ledger: Optional[str], tell: Callable[[], None]) -> None:
    """Start watching; once in a process. `ledger` is our own address, which never counts."""
    import atexit

    if state.watchdog is not None:
        state.watchdog.on = True
        return
    state.watchdog = dog = Watchdog(ledger, tell)
    sys.addaudithook(dog.heard)
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=dog.forked)
    atexit.register(dog.check)
