"""From what people write to the values of a rule: amounts, counts, shares, words, zones, labels.

Owns what each key of a rule takes and the sentence that refuses anything else: field, value, remedy. Used by whoever
builds rules (`CostConfig`, the policy file, the ledger). Money never goes through binary fractions: it is read from its
decimal digits (a float from its shortest ones). If this is lenient, a typo becomes a budget that does not hold.
"""

from __future__ import annotations

import re
from typing import Any, Callable, Iterable, Mapping, NamedTuple, NoReturn, Optional, Tuple

from aicostguard.guard.policy import ON_EXCEED, PERIODS, BadPolicy
from aicostguard.guard.values import LABELS

#: a thousand million dollars, and as many tokens: sums of it stay within 64 bits
MOST = 10**18

NANO = 10**9
_DECIMAL = re.compile(r"(\d[\d_]*)?(?:\.(\d+))?(?:[eE]([+-]?\d{1,2}))?\Z")
_TAG = re.compile(r"tags\.[A-Za-z][A-Za-z0-9_.-]{0,31}\Z")
_NAME = re.compile(r"[\w.:/@ -]{1,128}\Z")


class Wrong(ValueError):
    """A value that a key does not take. The text, where there is one, is a better remedy than the key's own."""


class Kind(NamedTuple):
    """What one key takes. `read` gives the value of the rule or raises `Wrong`; `remedy` says what to write."""

    read: Callable[[Any], Any]
    remedy: str


def refuse(field: str, value: object, remedy: str) -> NoReturn:
    """Raise BadPolicy with its three parts."""
    raise BadPolicy("%s: %s cannot be used: %s" % (field, shown(value), remedy))


def shown(value: object) -> str:
    """A value as it stands in an error: short, on one line."""
    text = repr(value) if not isinstance(value, (int, float)) or isinstance(value, bool) else str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def read(kind: Kind, field: str, value: object) -> Any:
    """The value of a rule; BadPolicy with field, value and remedy when it is none."""
    try:
        return kind.read(value)
    except Wrong as error:
        refuse(field, value, str(error) or kind.remedy)


def meant(name: str, known: Iterable[str]) -> str:
    """The remedy for an unknown name: the nearest known one, and all of them."""
    from difflib import get_close_matches

    names = list(known)
    near = get_close_matches(name, names, 1, 0.6)
    guess = "did you mean %s? " % near[0] if near else ""
    return "%sknown are %s" % (guess, ", ".join(names))


def decimal(value: object, units: int) -> Optional[int]:
    """A decimal number times `units` (a power of ten), exactly; None when it is no number or finer than that.

    Takes int, float, Decimal and text. Negative numbers, infinities, octal and sexagesimal ones are none.
    """
    if isinstance(value, bool) or value is None:
        return None
    text = value.strip() if isinstance(value, str) else repr(value) if isinstance(value, float) else str(value)
    found = _DECIMAL.match(text)
    if found is None or (found.group(1) is None and found.group(2) is None):
        return None
    whole, part = (found.group(1) or "0").replace("_", ""), found.group(2) or ""
    if len(whole) > 1 and whole.startswith("0"):  # eight or ten: YAML and people disagree
        return None
    exponent = int(found.group(3) or 0) - len(part)
    number = int(whole + part) * units
    if exponent >= 0:
        return int(number * 10**exponent)
    exact, rest = divmod(number, 10**-exponent)
    return None if rest else exact


def _limit(units: int) -> Callable[[Any], int]:
    def read_limit(value: Any) -> int:
        number = decimal(value, units)
        if number is None or number > MOST:
            raise Wrong
        return number

    return read_limit


def _count(value: Any) -> int:
    number = decimal(value, 1)
    if number is None or not 2 <= number <= 1000:
        raise Wrong
    return number


def _seconds(value: Any) -> float:
    number = decimal(value, 1000)
    if number is None or not 0 < number <= 86_400_000:
        raise Wrong
    return number / 1000


def share(value: Any) -> int:
    """A share of a limit in per mille: `0.8` and `80%` are 800."""
    if isinstance(value, str) and value.rstrip().endswith("%"):
        number = decimal(value.rstrip()[:-1], 10)
    else:
        number = decimal(value, 1000)
        if number is not None and number > 1000:
            raise Wrong("use a share from 0 to 1, or a percentage such as 80%; 1 is the whole limit")
    if number is None or not 0 < number <= 1000:
        raise Wrong
    return number


def choice(*words: str) -> Kind:
    """One of a few words."""

    def read_choice(value: Any) -> str:
        if value not in words:
            raise Wrong
        return str(value)

    return Kind(read_choice, "use one of %s" % ", ".join(words))


def _name(value: Any) -> str:
    if not isinstance(value, str) or _NAME.match(value) is None:
        raise Wrong
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise Wrong
    return value


def _zone(value: Any) -> str:
    if not isinstance(value, str):
        raise Wrong
    if value == "UTC":
        return value
    import zoneinfo

    try:
        zoneinfo.ZoneInfo(value)
    except (KeyError, ValueError, OSError):
        names = zoneinfo.available_timezones()
        if not names:
            raise Wrong("this machine has no time zones: pip install tzdata, or use UTC") from None
        raise Wrong(meant_zone(value, names)) from None
    return value


def meant_zone(value: str, names: Iterable[str]) -> str:
    """The remedy for an unknown zone: the nearest, not all six hundred."""
    from difflib import get_close_matches

    # people write the city, or the right words in small letters
    by_word = {name.lower(): name for name in names}
    by_word.update({name.lower().rpartition("/")[2]: name for name in names if "/" in name})
    near = get_close_matches(value.lower(), by_word, 1, 0.6)
    guess = "did you mean %s? " % by_word[near[0]] if near else ""
    return guess + "use a name of the IANA time zone database, such as Europe/Berlin, or UTC"


def label(value: Any) -> str:
    """The name of a label that rules may look at."""
    if not isinstance(value, str):
        raise Wrong
    if value not in LABELS and _TAG.match(value) is None:
        raise Wrong(meant(value, (*LABELS, "tags.NAME")))
    return value


USD = Kind(_limit(NANO), "use an amount in USD, 0 or more and no finer than a nano-dollar, such as 100 or 0.25")
TOKENS = Kind(_limit(1), "use a whole number of tokens, 0 or more, such as 100000")
REQUESTS = Kind(_limit(1), "use a whole number of requests, 0 or more, such as 60")
SHARE = Kind(share, "use a share of the limit above 0, such as 0.8 or 80%")
COUNT = Kind(_count, "use a whole number of calls from 2 to 1000")
SECONDS = Kind(_seconds, "use seconds, above 0 and at most 86400, such as 60")
NAME = Kind(_name, "use 1 to 128 letters, digits, blanks or any of _ . : / @ -")
TEXT = Kind(_text, "use text that is not empty")
ZONE = Kind(_zone, "use a name of the IANA time zone database, such as Europe/Berlin, or UTC")
LABEL = Kind(label, "use the name of a label: " + ", ".join((*LABELS, "tags.NAME")))
EXCEED = choice(*ON_EXCEED)
PERIOD = choice(*PERIODS)

#: key of `cost:` and of `CostConfig` → what it takes
COST: Mapping[str, Kind] = {
    "budget_usd": USD,
    "per_call_limit_usd": USD,
    "per_session_limit_usd": USD,
    "daily_budget_usd": USD,
    "per_minute_tokens": TOKENS,
    "alert_threshold": SHARE,
    "on_exceed": EXCEED,
    "on_unpriced": choice("allow", "warn", "block"),
    "on_unknown_bound": choice("observed", "max", "refuse"),
    "on_store_failure": choice("open", "closed"),
    "loop_window": SECONDS,
    "loop_threshold": COUNT,
    "loop_action": choice("warn", "block", "off"),
}


def kind_of(table: Mapping[str, Kind], field: str, name: str) -> Kind:
    """The row of a key; BadPolicy when there is none. `field` is its name with where it stands."""
    kind = table.get(name)
    if kind is None:
        raise BadPolicy("%s: there is no such key: %s" % (field, meant(name, table)))
    return kind


#: key of a limit → (unit, period, what it limits)
DIMENSIONS: Tuple[Tuple[str, str, str, str], ...] = (
    ("per_call_limit_usd", "nanousd", "call", "per_call"),
    ("per_session_limit_usd", "nanousd", "session", "session"),
    ("daily_budget_usd", "nanousd", "day", "daily"),
    ("per_minute_tokens", "tokens", "minute", "per_minute_tokens"),
    ("budget_usd", "nanousd", "total", "budget"),
)
