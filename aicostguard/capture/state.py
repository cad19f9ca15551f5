"""What capture needs to know of its surroundings: where receipts go, and how calls are named.

Owns one process-wide value that `auto` fills in, so that capture never imports delivery. Light to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Callable, Dict, Hashable, List, Optional, Sequence, Tuple

from aicostguard.capture.caller import Rule
from aicostguard.receipt import Receipt

if TYPE_CHECKING:
    from aicostguard.capture.estimating import Estimates
    from aicostguard.capture.gate import Gate
    from aicostguard.capture.quick import Quick
    from aicostguard.capture.watchdog import Watchdog
    from aicostguard.metering import Endpoint

#: an endpoint, and what is known of its answers
Met = Tuple["Endpoint", "Optional[Quick]"]


class State:
    """`deliver` takes a finished receipt; `adeliver` does so from a coroutine, when `inline` asks for it."""

    def __init__(self) -> None:
        self.deliver: Optional[Callable[[Receipt], None]] = None
        self.adeliver: Optional[Callable[[Sequence[Receipt]], Any]] = None
        self.inline = False
        #: what may refuse a call, while a budget is in force
        self.gate: Optional[Gate] = None
        #: send the six core keys only
        self.core = False
        #: ask for usage on chat streams that did not (`AICG_STREAM_USAGE=request`)
        self.ask = False
        #: what estimates where the provider has told no usage (extra `estimate`)
        self.estimates: Optional[Estimates] = None
        #: what listens to look-ups of names (`AICG_WATCHDOG=1`)
        self.watchdog: Optional[Watchdog] = None
        self.hosts = ()
        self.rule = Rule()
        #: the feature when there is no other
        self.default: Optional[str] = None
        #: take routes, tasks and agents as labels where none are set in code (`AICG_AUTO_LABELS`)
        self.automatic = True
        #: functions that look up which agent is at work: (agent, parent) or None
        self.readers: List[Callable[[], Optional[Tuple[str, Optional[str]]]]] = []
        #: mixed into the hashes that stand for values which may not be sent
        self.salt = ""

    @property
    def hosts(self) -> Tuple[Tuple[str, Optional[int], Optional[str]], ...]:
        """More AI endpoints: rows of `Settings.hosts`."""
        return self._hosts

    @hosts.setter
    def hosts(self, rows: Tuple[Tuple[str, Optional[int], Optional[str]], ...]) -> None:
        self._hosts = rows
        #: what was recognised with these hosts, and what is known of the answers; a program has few endpoints
        self.endpoints: Dict[Hashable, Met] = {}


state = State()
