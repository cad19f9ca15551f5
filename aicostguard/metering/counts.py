"""Counts out of a `usage`, by tables of names.

Owns which member becomes which field: the first one that holds a count, top level before the objects inside. A provider
sends the same few shapes again and again, and this runs on the caller's thread: so where the counts of a shape stand is
learnt from one that holds a number for each of its members, and read from then on by a few calls of C. What is no plain
count is left to the look at every member. If this is wrong, every number downstream is.
"""

from __future__ import annotations

from operator import itemgetter
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from aicostguard.metering.values import count

#: shapes that are remembered, and members of one at most: a provider's are few
MOST_SHAPES, MOST_MEMBERS = 256, 32

Names = Mapping[str, str]
_INT = {int}


class Shape(NamedTuple):
    """Where the counts stand: in the values of the top level, followed by those of each object inside."""

    #: member that may be an object → its keys; None where it is none
    inside: Tuple[Tuple[str, Optional[Tuple[str, ...]]], ...]
    fields: Tuple[str, ...]
    counts: Callable[[List[Any]], Tuple[Any, ...]]

    def pick(self, raw: Mapping[str, Any]) -> Optional[Tuple[int, ...]]:
        """The count of each field in an object with the same keys; None when it takes a look at every member."""
        values = list(raw.values())
        for key, expected in self.inside:
            inner = raw[key]
            if type(inner) is dict:
                if tuple(inner) != expected:
                    return None
                values += inner.values()
            elif expected is not None:
                return None
        counts = self.counts(values)
        return counts if set(map(type, counts)) == _INT and min(counts) >= 0 else None


class Counts:
    """Reads one provider's family of `usage`: `top` are names → fields, `inside` are objects in it → their names."""

    def __init__(self, top: Names, inside: Mapping[str, Names]) -> None:
        self._top = top
        self._inside = inside
        self._shapes: Dict[Tuple[str, ...], Optional[Shape]] = {}

    def of(self, raw: Mapping[str, Any]) -> Dict[str, int]:
        """Field → count."""
        shape = self.shape(raw)
        counts = None if shape is None else shape.pick(raw)
        return self._look(raw) if shape is None or counts is None else dict(zip(shape.fields, counts))

    def shape(self, raw: Mapping[str, Any]) -> Optional[Shape]:
        """The shape of this one; None for one that always needs a look, or when too many are known."""
        keys = tuple(raw)
        shape = self._shapes.get(keys)
        if shape is None and keys not in self._shapes:
            self._learn(keys, raw)
            shape = self._shapes.get(keys)
        return shape

    def _look(self, raw: Mapping[str, Any]) -> Dict[str, int]:
        found: Dict[str, int] = {}
        self._take(raw, self._top, found)
        return found

    def _take(self, members: Mapping[str, Any], names: Names, found: Dict[str, int]) -> None:
        for key, value in members.items():
            field = names.get(key)
            if field is not None:
                number = count(value)
                if number is not None and field not in found:
                    found[field] = number
            elif key in self._inside and type(value) is dict:
                self._take(value, self._inside[key], found)

    def _learn(self, keys: Tuple[str, ...], raw: Mapping[str, Any]) -> None:
        """Remember the shape of this one; None for one that always needs a look."""
        if len(self._shapes) >= MOST_SHAPES or len(keys) > MOST_MEMBERS:
            return
        places = iter(range(MOST_MEMBERS * (len(keys) + 1)))
        twin: Dict[str, Any] = dict(zip(keys, places))
        inside: List[Tuple[str, Optional[Tuple[str, ...]]]] = []
        for key in keys:
            inner = raw[key]
            if key in self._top or key not in self._inside:
                continue
            plain = type(inner) is dict and len(inner) <= MOST_MEMBERS and self._inside.keys().isdisjoint(inner)
            if type(inner) is dict and not plain:
                self._shapes[keys] = None
                return
            twin[key] = _numbered(inner, places) if plain else None
            inside.append((key, tuple(inner) if plain else None))
        found = self._look(twin)
        # `itemgetter` gives tuples from two on.
        shape = Shape(tuple(inside), tuple(found), itemgetter(*found.values())) if len(found) > 1 else None
        self._shapes[keys] = shape


def _numbered(inner: Mapping[str, Any], places: Iterator[int]) -> Dict[str, int]:
    """The object with the place of each value instead of it."""
    return {key: next(places) for key in inner}
