"""What people read about budgets: refusals, alerts, warnings.

Owns every sentence and how amounts stand in it. Pure. Amounts have two decimals, and more where two would hide the
difference: "spend $5.00 would exceed $5.00" explains nothing.
"""

from __future__ import annotations

from typing import Dict, Mapping, Optional, Tuple

from aicostguard.guard.policy import Budget

#: the text of HTTP 402, and of whoever answers for the guard with one sentence
BLOCKED = "Budget limit reached. Inference blocked."

#: dimension or period → (what is counted, what limits it)
SUBJECTS: Dict[str, Tuple[str, str]] = {
    "per_call": ("Call cost", "per-call limit"),
    "call": ("Call cost", "per-call limit"),
    "session": ("Session spend", "per-session limit"),
    "daily": ("Daily spend", "daily budget"),
    "per_minute_tokens": ("Token use of 60 seconds", "per-minute limit"),
    "budget": ("Total spend", "total budget"),
    "minute": ("Use of 60 seconds", "per-minute limit"),
    "hour": ("Hourly spend", "hourly budget"),
    "day": ("Daily spend", "daily budget"),
    "week": ("Weekly spend", "weekly budget"),
    "month": ("Monthly spend", "monthly budget"),
    "total": ("Total spend", "total budget"),
}
_NANO = 10**9
_WORDS = {"tokens": ("spend", "token use"), "requests": ("spend", "requests")}


def amounts(unit: str, *values: int) -> Tuple[str, ...]:
    """Amounts of one unit as they stand in one sentence: `$5.12`, `12,000 tokens`. Different ones look different."""
    if unit != "nanousd":
        return tuple("{:,} {}".format(value, unit) for value in values)
    places = 2
    while places < 9 and len({_dollars(value, places) for value in values}) < len(set(values)):
        places += 1
    return tuple(_dollars(value, places) for value in values)


def _dollars(value: int, places: int) -> str:
    """Rounded half up, from integers."""
    step: int = 10 ** (9 - places)
    whole, part = divmod((abs(value) + step // 2) // step, 10**places)
    return "%s${:,}.%0*d".format(whole) % ("-" if value < 0 else "", places, part)


def percent(used: int, limit: int, threshold: int) -> Tuple[str, str]:
    """Use and threshold (per mille) as percentages that look different when they are."""
    line = ("%.1f" % (threshold / 10)).replace(".0", "") + "%"
    if not limit:
        return "100%", line
    for places in (0, 1, 2, 3, 6):
        scaled = used * 10 ** (places + 2) // limit
        text = "%d" % scaled if not places else "%d.%0*d" % (*divmod(scaled, 10**places), places)
        if used * 1000 == limit * threshold or scaled * 10 != threshold * 10**places:
            break
    return text + "%", line


def _where(scope: Mapping[str, str]) -> str:
    return " (%s)" % ", ".join("%s %s" % (name, value or "unnamed") for name, value in scope.items()) if scope else ""


def _subject(budget: Budget) -> Tuple[str, str]:
    subject, limit = SUBJECTS.get(budget.dimension.lower()) or SUBJECTS[budget.period]
    for word in _WORDS.get(budget.unit, ()):
        subject = subject.replace("spend", word).replace("Call cost", "Use of one call")
    return subject, limit


def exceeds(budget: Budget, scope: Mapping[str, str], used: int, estimate: Optional[int]) -> str:
    """Why a call has no room: `Session spend $5.12 would exceed per-session limit $5.00`.

    `used` is what is spent and reserved without it, `estimate` what it may use, None when nobody knows.
    """
    subject, limit = _subject(budget)
    if budget.period == "session":
        scope = {name: value for name, value in scope.items() if name != "session"}
    where = _where(scope)
    if estimate is None:
        now, line = amounts(budget.unit, used, budget.limit)
        return "%s%s %s and a call whose use is not known would exceed %s %s" % (subject, where, now, limit, line)
    total, line = amounts(budget.unit, used + estimate, budget.limit)
    return "%s%s %s would exceed %s %s" % (subject, where, total, limit, line)


def unpriced(model: str) -> str:
    """A model without a price under `on_unpriced`."""
    return "No price is known for model %s, so its cost cannot be held against a budget" % (model or "(unnamed)")


def unbounded(why: Optional[str]) -> str:
    """A call whose most is not known, under `on_unknown_bound: refuse`."""
    return "The most that this call can use is not known (%s), and such calls are refused" % (why or "no-maximum")


def no_store(name: str) -> str:
    """Fail closed."""
    return "Budgets of %s cannot be read or written now, and calls are refused until they can" % name


def alert(scope: Mapping[str, str], used: int, limit: int, threshold: int) -> str:
    """`Budget utilization 90% exceeds alert threshold 80%`."""
    share, line = percent(used, limit, threshold)
    verb = "exceeds" if used * 1000 > limit * threshold else "reaches"
    return "Budget%s utilization %s %s alert threshold %s" % (_where(scope), share, verb, line)
