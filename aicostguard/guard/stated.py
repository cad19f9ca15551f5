"""One budget as people state it: in the policy file, and in what is sent to the ledger.

Owns its keys. Both places read it here, so that a rule means the same and is refused in the same words wherever it
stands. Raises `BadPolicy` with field, value and remedy; none is half taken.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from aicostguard.guard import rules
from aicostguard.guard.policy import BadPolicy, Budget

#: key of the limit → its unit, and what it takes
LIMITS: Mapping[str, Tuple[str, rules.Kind]] = {
    "limit_usd": ("nanousd", rules.USD),
    "limit_tokens": ("tokens", rules.TOKENS),
    "limit_requests": ("requests", rules.REQUESTS),
}
#: shares told, and labels looked at, by one rule
MOST = 16


def _match(value: Any) -> Dict[str, str]:
    if not isinstance(value, Mapping) or len(value) > MOST:
        raise rules.Wrong
    return {rules.label(name): str(rules.NAME.read(item)) for name, item in value.items()}


def _per(value: Any) -> Tuple[str, ...]:
    if isinstance(value, str):
        value = [value]
    if not isinstance(value, (list, tuple)) or len(value) > MOST or len(set(map(str, value))) < len(value):
        raise rules.Wrong
    return tuple(rules.label(name) for name in value)


def _alert_at(value: Any) -> Tuple[int, ...]:
    if not isinstance(value, (list, tuple)) or len(value) > MOST:
        raise rules.Wrong
    return tuple(sorted({rules.share(item) for item in value}))


MATCH = rules.Kind(_match, 'use labels and their values, such as {"team": "search"}')
PER = rules.Kind(_per, 'use a list of labels, each once, such as ["team"]')
ALERT_AT = rules.Kind(_alert_at, "use a list of at most %d shares of the limit, such as [0.75, 0.9, 1]" % MOST)

#: key → (field of Budget, what it takes)
_FIELDS: Mapping[str, Tuple[str, rules.Kind]] = {
    "match": ("match", MATCH),
    "per": ("per", PER),
    "period": ("period", rules.PERIOD),
    "timezone": ("timezone", rules.ZONE),
    "on_exceed": ("on_exceed", rules.EXCEED),
    "alert_at": ("alert_at", ALERT_AT),
}
#: every key, and what it takes
KINDS: Mapping[str, rules.Kind] = {
    "name": rules.NAME,
    **{key: kind for key, (_, kind) in LIMITS.items()},
    **{key: kind for key, (_, kind) in _FIELDS.items()},
}
KEYS = tuple(KINDS)
#: periods whose use does not grow towards a limit: nothing of them is told unless it was asked for
_QUIET = ("call", "minute")


def budget(given: Mapping[str, object], where: str = "", name: Optional[str] = None) -> Budget:
    """The rule. `where` begins the names of fields in errors; `name` is taken when none is stated."""
    for key in given:
        if key not in KEYS:
            raise BadPolicy("%s%s: there is no such key: %s" % (where, key, rules.meant(str(key), KEYS)))
    stated = given.get("name", name)
    if stated is None:
        raise BadPolicy("%sname: is missing: give the budget a name, by which refusals and alerts call it" % where)
    limits = [key for key in LIMITS if given.get(key) is not None]
    if len(limits) != 1:
        found = "%s are both given" % " and ".join(limits) if limits else "is missing"
        raise BadPolicy("%s%s: %s: give one of %s" % (where, (limits or ["limit_usd"])[0], found, ", ".join(LIMITS)))
    unit, kind = LIMITS[limits[0]]
    made: Dict[str, Any] = {
        field: rules.read(its, where + key, given[key])
        for key, (field, its) in _FIELDS.items()
        if given.get(key) is not None
    }
    if made.get("period") in _QUIET:
        made.setdefault("alert_at", ())
    return Budget(
        name=rules.read(rules.NAME, where + "name", stated),
        limit=rules.read(kind, where + limits[0], given[limits[0]]),
        unit=unit,
        **made,
    )
