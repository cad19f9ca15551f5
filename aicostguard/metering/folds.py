"""Two ways to read a stream that most providers share.

Owns `Single`, for streams in which one event holds the usage, and `Latest`, for those in which many do and the last
one counts. What is read in the event is a function of the format. Neither keeps more than a few events.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Callable, List, Mapping, Optional

from aicostguard.metering.formats import Facts, Fold
from aicostguard.metering.values import mapping, parse, text
from aicostguard.usage import Reading

#: an event → its reading; None when it holds no usage
Read = Callable[[Mapping[str, Any], Facts], Optional[Reading]]


class Single(Fold):
    """A stream with one event that counts, which is also its last one that matters."""

    __slots__ = ("_read", "_found", "_begun", "_error", "_model", "_id")

    def __init__(self, read: Read, facts: Facts) -> None:
        super().__init__(facts)
        self._read = read
        self._found: Optional[Reading] = None
        #: an event that was no error has come: what follows is billed
        self._begun = False
        self._error = False
        self._model: Optional[str] = None
        self._id: Optional[str] = None

    def event(self, data: bytes) -> bool:
        body = mapping(parse(data))
        found = self._read(body, self.facts) if body else None
        if found is not None:
            self._found = found
            return True
        if body.get("error"):
            self._error = True
        else:
            self._begun = True
            self._model = self._model or text(body.get("model"))
            self._id = self._id or text(body.get("id"))
        return False

    def readings(self) -> List[Reading]:
        found = self._found
        if found is None:
            return [] if self._error and not self._begun else [Reading(self._model, None, response_id=self._id)]
        return [found._replace(model=found.model or self._model, response_id=found.response_id or self._id)]


class Latest(Fold):
    """A stream that repeats its usage as it grows: the events are kept as bytes, and the last readable one counts."""

    __slots__ = ("_read", "_kept", "_begun", "_error")

    #: how many events are kept
    KEPT = 4

    def __init__(self, read: Read, facts: Facts) -> None:
        super().__init__(facts)
        self._read = read
        self._kept: List[bytes] = []
        self._begun = False
        self._error = False

    def event(self, data: bytes) -> bool:
        if b'"error"' in data and mapping(parse(data)).get("error"):
            self._error = True
            return False
        self._begun = True
        self._kept.append(data)
        if len(self._kept) > self.KEPT:
            del self._kept[0]
        return False

    def readings(self) -> List[Reading]:
        for data in reversed(self._kept):
            found = self._read(mapping(parse(data)), self.facts)
            if found is not None:
                return [found]
        return [] if self._error and not self._begun else [Reading(None, None)]


def single(read: Read) -> Callable[[Facts], Fold]:
    """A `Single` for this format."""
    return partial(Single, read)


def latest(read: Read) -> Callable[[Facts], Fold]:
    """A `Latest` for this format."""
    return partial(Latest, read)
