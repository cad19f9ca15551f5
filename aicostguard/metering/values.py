"""JSON as providers write it: parsing that keeps money exact, and counts that are never guessed.

Owns the reading of one JSON text and of one number in it. Never raises for what a provider sent: what
cannot be read is None, and None means "the provider did not say". If this drifts, a string or a negative
number becomes a price.
"""

from __future__ import annotations

import json
from typing import Any, Mapping, Optional, Tuple, Union

NANO = 10**9
#: the most digits a reported cost may have before or after its point; beyond them it is not a price
_PLACES = 30


class Written(str):
    """A JSON number with a fraction or an exponent, kept as it was written: a float would round money.

    A class of its own, so that `12.0` (a number) and `"12.0"` (a string) stay apart.
    """

    __slots__ = ()


_SPACE = " \t\r\n"
#: (text, start) → (value, end); raises `StopIteration` or `ValueError` where none begins
scan_once = json.JSONDecoder(parse_float=Written).scan_once  # type: ignore[attr-defined]  # typeshed leaves it out


def parse(data: Union[bytes, str]) -> Any:
    """The value of a JSON text, or None when it is not one. Numbers with a fraction become `Written`.

    Half the cost of `JSONDecoder.decode` on the small texts that streams are made of.
    """
    source = data if isinstance(data, str) else data.decode("utf-8", "replace")
    if source[:1] not in ("{", "["):
        source = source.lstrip("\ufeff").lstrip(_SPACE)
    try:
        value, end = scan_once(source, 0)
    except (StopIteration, ValueError, RecursionError):
        return None
    return value if end == len(source) or not source[end:].strip(_SPACE) else None


def parse_from(source: str, start: int) -> Tuple[Any, int]:
    """`(value, end)` of the JSON value that begins at `start`; `(None, -1)` when there is none."""
    try:
        value, end = scan_once(source, start)
    except (StopIteration, ValueError, RecursionError):
        return None, -1
    return value, end


def count(value: Any, digits: bool = False) -> Optional[int]:
    """A token count, or None.

    Integers and whole numbers written as floats (Bedrock sends `12.0`) count; true, false, negative
    numbers and fractions do not. A string of digits counts only with `digits`, for providers whose format
    writes 64-bit integers that way (Google, https://protobuf.dev/programming-guides/json/).
    """
    if type(value) is int:
        return value if value >= 0 else None
    if type(value) is Written:
        number = float(value)
        return int(number) if 0 <= number < 2**53 and number.is_integer() else None
    if digits and type(value) is str and len(value) < 19 and value.isascii() and value.isdigit():
        return int(value)
    return None


def nano_dollars(value: Any, per_dollar: int = 1) -> Optional[int]:
    """A reported cost in nano-dollars, rounded once, half up. `per_dollar`: units of `value` in a dollar."""
    if type(value) is not int and type(value) is not Written:
        return None
    from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation

    context = Context(prec=_PLACES * 3, rounding=ROUND_HALF_UP)
    try:
        amount = Decimal(value)
        if not amount.is_finite() or amount < 0 or abs(amount.adjusted()) > _PLACES:
            return 0 if amount == 0 else None
        exact = context.divide(context.multiply(amount, Decimal(NANO)), Decimal(per_dollar))
        return int(exact.to_integral_value(rounding=ROUND_HALF_UP))
    except (InvalidOperation, ValueError):
        return None


def milliseconds(value: Any) -> Optional[int]:
    """A duration given in seconds, or None; rounded to the nearest millisecond."""
    if type(value) is not int and type(value) is not Written:
        return None
    number = float(value)
    return round(number * 1000) if 0 <= number < 10**7 else None


def text(value: Any) -> Optional[str]:
    """A string that says something, else None."""
    return value if type(value) is str and value else None


def mapping(value: Any) -> Mapping[str, Any]:
    """`value` when it is an object, else an empty one."""
    return value if type(value) is dict else {}
