"""The same answer again: from the body of a plain answer, or the last words of a plain stream, straight to its receipt.

Owns a second way to what `read_body`, `Meter` and `Call._settle` do, for what nearly every call is: one object of JSON
with a `usage` of a shape that was met before, whose counts are all there and add up. What the long way made of the
first such answer is kept as a template: the names on its receipt, and where the numbers on it stand. Each call of ours
meets cold caches, for the SDK has run before it; so what counts is how little code and data are touched.

Whatever is not exactly like that is left to the long way. `tests/capture/test_quick.py` and `test_start.py` prove that
both come to the same receipt, byte by byte. If this is wrong, receipts are.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

from aicostguard.capture import once
from aicostguard.capture.state import state
from aicostguard.metering import Endpoint
from aicostguard.metering.plain import Plain, plain
from aicostguard.metering.scan import SMALL, members
from aicostguard.metering.values import scan_once
from aicostguard.receipt import MAX_TOKENS, Made, Receipt, template
from aicostguard.usage import INPUT_PARTS, OUTPUT_PARTS, Usage

if TYPE_CHECKING:
    from aicostguard.capture.call import Call

#: what is learnt for one endpoint at most, shapes and templates together: a program has few, unless it labels each
#: call with another name
MOST = 512

_WHOLES = ("input_tokens", "output_tokens", "total")
_PARTS = tuple(field for field in Usage._fields if field in INPUT_PARTS + OUTPUT_PARTS)


class _Template:
    """One receipt with a place for each number."""

    __slots__ = ("receipt", "numbers", "text")

    def __init__(self, made: Made, text: str, numbers: Tuple[str, ...]) -> None:
        #: its names and numbers in their order
        self.receipt: Receipt = dict(made)
        self.numbers = numbers
        self.text = text


#: where a receipt is to be remembered, and under which names
Unmet = Tuple[Dict[Tuple[Any, ...], _Template], Tuple[Any, ...]]


class _Shape:
    """A `usage` that has the three wholes, and no counts but parts of them."""

    __slots__ = ("pick", "order", "given", "templates", "streamed")

    def __init__(self, pick: Callable[[Mapping[str, Any]], Any], fields: Sequence[str]) -> None:
        #: `usage` → its counts, None when one is none
        self.pick = pick
        parts = [field for field in _PARTS if field in fields]
        #: input, output, total, then the parts
        self.order: Callable[[Any], Sequence[int]] = itemgetter(*map(fields.index, (*_WHOLES, *parts)))
        #: which of the parts are input
        self.given = [field in INPUT_PARTS for field in parts]
        #: names, and which parts are not 0 → the receipt: of a whole answer, and of a stream
        self.templates: Dict[Tuple[Any, ...], _Template] = {}
        self.streamed: Dict[Tuple[Any, ...], _Template] = {}

    def fits(self, given: int, made: int, parts: Sequence[int]) -> bool:
        """No part exceeds its whole."""
        return all(part <= (given if of else made) for part, of in zip(parts, self.given))


#: a `usage`: its shape, input, output, and the parts of them where one is not 0
Counted = Tuple[_Shape, int, int, Sequence[int]]


def _asks_more(call: Call) -> bool:
    """Whether somebody asks more of an answer than its receipt."""
    if state.gate is not None or call.hold is not None or state.core or once.pending:
        return True
    logical = call.logical
    return (logical is not None and logical.attempts > 1) or (state.inline and call.asynchronous)


class Quick:
    """What is known of one endpoint's answers."""

    __slots__ = ("plain", "_shapes", "_left")

    def __init__(self, plain: Plain) -> None:
        self.plain = plain
        #: keys of a `usage` → its shape
        self._shapes: Dict[Tuple[str, ...], Optional[_Shape]] = {}
        self._left = MOST

    def receipt(self, call: Call, body: bytes, now: float) -> Optional[Made]:
        """The receipt of an answer, None for one that needs a closer look."""
        try:
            if _asks_more(call):
                return None
            if len(body) <= SMALL:
                source = body.decode()
                found, end = scan_once(source, 0)
                if end != len(source):
                    return None
            else:
                found = members(body, *self.plain.wanted)
            counted = self.counted(found)
            return None if counted is None else self._filled(call, found, counted, now)
        except (LookupError, TypeError, ValueError, StopIteration, RecursionError):
            return None  # no such object, or a name in it that is none

    def streamed(self, call: Call, found: Mapping[str, Any], counted: Counted, now: float) -> Optional[Made]:
        """The receipt of a stream that has ended with these members; None where it needs a closer look."""
        try:
            return None if _asks_more(call) else self._filled(call, found, counted, now)
        except (LookupError, TypeError):
            return None

    def counted(self, found: Mapping[str, Any]) -> Optional[Counted]:
        """What an object's `usage` says, if it says all there is to say. Raises what its odd members make it raise."""
        usage = found["usage"]
        if type(usage) is not dict or "usage_breakdown" in found:
            return None
        shape = self._shapes.get(tuple(usage)) or self._meet(usage)
        if shape is None:
            return None
        given, made, total, *parts = shape.order(shape.pick(usage))
        # A zero has its place on a receipt behind the other numbers.
        if given + made != total or not given or not made:
            return None
        if any(parts):
            return (shape, given, made, parts) if shape.fits(given, made, parts) else None
        return shape, given, made, ()

    def _filled(self, call: Call, found: Mapping[str, Any], counted: Counted, now: float) -> Optional[Made]:
        """The receipt of one like it with these numbers; None for the first of its kind."""
        shape, given, made, parts = counted
        names: Tuple[Any, ...]
        names = found["model"], call.feature, found.get("service_tier"), found["usage"].get("service_tier")
        if call.labels:
            names += tuple(call.labels.items())
        started, first = call.started, call.first
        latency = max(0, round((now - started) * 1000))
        if parts:
            names += tuple(map(bool, parts))
            numbers = (given, made, *filter(None, parts), latency)
        else:
            numbers = (given, made, latency)
        templates = shape.templates
        if first is not None:
            templates = shape.streamed
            numbers += (max(0, round((first - started) * 1000)),)
        if max(numbers) > MAX_TOKENS:
            return None
        known = templates.get(names)
        if known is None:
            call.unmet = templates, names
            return None
        receipt = Made(known.receipt)
        receipt.update(zip(known.numbers, numbers))
        receipt.text = known.text % numbers
        return receipt

    def _meet(self, usage: Mapping[str, Any]) -> Optional[_Shape]:
        """The shape of a `usage`, as far as it is one of ours."""
        keys = tuple(usage)
        if keys not in self._shapes and self._left > 0:
            self._left -= 1
            found = self.plain.shape(usage)
            fits = found is not None and {*_WHOLES} <= {*found.fields} <= {*_WHOLES, *_PARTS}
            self._shapes[keys] = _Shape(found.pick, found.fields) if found is not None and fits else None
        return self._shapes.get(keys)

    def learn(self, call: Call, receipts: Sequence[Receipt]) -> None:
        """Keep what the long way has made of the answer that `receipt` had not met, for the next one like it."""
        unmet, call.unmet = call.unmet, None
        made = receipts[0] if len(receipts) == 1 else None
        if unmet is None or self._left <= 0 or not isinstance(made, Made):
            return
        templates, names = unmet
        if names[0] == made["model"]:  # else the request named it, or it was replaced
            self._left -= 1
            templates[names] = _Template(made, *template(made))


def quick(endpoint: Endpoint) -> Optional[Quick]:
    """What there is to be known of this endpoint's answers; None where each of them needs a closer look."""
    found = plain(endpoint)
    return None if found is None else Quick(found)
