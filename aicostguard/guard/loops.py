"""The same call, again and again: a loop, noticed while it is still cheap.

Owns when calls count as the same and how many of them within which time are a loop. Two calls are the same when agent,
action, model and content are, asked by the same user in the same session; parallel work on different inputs is none.
Two agents that hand the same work to each other and back are found by the pair they are. Logical calls are counted,
whatever an SDK repeats beneath them. Holds a bounded number of hashes and times, never content. If this is wrong, a
runaway agent is found by its bill, or work that is no loop is stopped.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from typing import Any, Callable, Deque, Dict, Hashable, NamedTuple, Optional, Tuple

from aicostguard.guard import forks
from aicostguard.guard.errors import LoopDetected
from aicostguard.guard.values import Facts

#: calls that are remembered apart; the one that was not seen for the longest time goes first
MOST = 4096


class Found(NamedTuple):
    """A loop. `new` is True for the first of its calls: what only warns says it once."""

    error: LoopDetected
    new: bool


class _Seen:
    """When one call was made, as far back as counts. `told` while it is a loop that was told."""

    __slots__ = ("times", "told")

    def __init__(self, threshold: int) -> None:
        self.times: Deque[float] = deque(maxlen=threshold)
        self.told = False

    def add(self, at: float, window: float) -> int:
        while self.times and at - self.times[0] > window:
            self.times.popleft()
        self.times.append(at)
        return len(self.times)

    def found(self, count: int) -> Optional[bool]:
        """None when `count` calls are no loop, else whether it is a new one."""
        if count < (self.times.maxlen or 0):
            self.told = False
            return None
        new, self.told = not self.told, True
        return new


class _Pair(_Seen):
    """Two agents: the times of calls that were made before in the same direction, and who was whose parent."""

    __slots__ = ("ways",)

    def __init__(self, threshold: int) -> None:
        super().__init__(threshold)
        #: (parent, agent) → when last; a loop has both
        self.ways: Dict[Tuple[str, str], float] = {}


class Loops:
    """Counts calls; says which of them are a loop.

    `threshold` calls that are the same within `window` seconds are one: with 5, the fifth is found. `clock` gives
    seconds. Safe under threads; time and memory of a call do not grow with their number.
    """

    def __init__(self, window: float = 60.0, threshold: int = 5, clock: Optional[Callable[[], float]] = None) -> None:
        self.window = window
        self.threshold = threshold
        self._clock = clock or time.monotonic
        self._lock = forks.lock_of(self)
        self._calls: OrderedDict[Hashable, _Seen] = OrderedDict()
        self._pairs: OrderedDict[Hashable, _Pair] = OrderedDict()

    def look(self, facts: Facts) -> Optional[Found]:
        """Count a call of the call path. Without a fingerprint nothing says that two calls are the same."""
        if facts.fingerprint is None:
            return None
        labels = facts.labels
        return self.seen(
            labels.get("agent"),
            facts.action,
            labels.get("model"),
            (facts.fingerprint, labels.get("user"), labels.get("session"), labels.get("feature")),
            labels.get("parent_agent"),
        )

    def seen(
        self,
        agent: Optional[str],
        action: Optional[str],
        model: Optional[str],
        content: Hashable = None,
        parent: Optional[str] = None,
    ) -> Optional[Found]:
        """Count a call: what is found, or None. `content` stands for what is asked; `parent` is who asked `agent`."""
        at = self._clock()
        key = (agent, action, model, content)
        with self._lock:
            call = _entry(self._calls, key, _Seen, self.threshold)
            count = call.add(at, self.window)
            new = call.found(count)
            if new is not None:
                return Found(self._error(agent, action, model, count), new)
            if parent and agent and parent != agent:
                return self._between(parent, agent, action, model, count, at)
        return None

    def _between(
        self, parent: str, agent: str, action: Optional[str], model: Optional[str], count: int, at: float
    ) -> Optional[Found]:
        """The same work, handed on and back: what both agents repeat counts together."""
        pair = _entry(self._pairs, frozenset((parent, agent)), _Pair, self.threshold)
        pair.ways[parent, agent] = at
        if count == 1:
            return None
        if count == 2:
            pair.add(at, self.window)  # its first, which was no repetition yet
        total = pair.add(at, self.window)
        if any(at - pair.ways.get(way, float("-inf")) > self.window for way in ((parent, agent), (agent, parent))):
            return None
        new = pair.found(total)
        if new is None:
            return None
        names = " and ".join(sorted((parent, agent)))
        text = "Loop detected: agents %s handed the same work to each other %d times within %s seconds"
        return Found(self._told(text % (names, total, _short(self.window)), agent, action, model, total), new)

    def _error(self, agent: Optional[str], action: Optional[str], model: Optional[str], count: int) -> LoopDetected:
        who = "agent %s" % agent if agent else "a program"
        what = ", ".join(part for part in (action, model) if part)
        text = "Loop detected: %s made the same call%s %d times within %s seconds"
        text = text % (who, " (%s)" % what if what else "", count, _short(self.window))
        return self._told(text, agent, action, model, count)

    def _told(
        self, text: str, agent: Optional[str], action: Optional[str], model: Optional[str], count: int
    ) -> LoopDetected:
        return LoopDetected(text, agent=agent, action=action, model=model, count=count, window=self.window)


def _entry(kept: OrderedDict[Hashable, Any], key: Hashable, kind: Callable[[int], Any], threshold: int) -> Any:
    found = kept.get(key)
    if found is None:
        found = kept[key] = kind(threshold)
        if len(kept) > MOST:
            kept.popitem(last=False)
    else:
        kept.move_to_end(key)
    return found


def _short(seconds: float) -> str:
    return "%g" % seconds
