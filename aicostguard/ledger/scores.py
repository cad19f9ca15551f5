"""Quality as the user measures it: any number with a name, for a call, a session or a run of an evaluation.

Owns what a score may be and its identity: the same name, subject and model again replaces the value, so that a sender
may repeat itself. A score of a call (label `request`) or a session is joined to what those receipts cost; one of a run
names the model that was measured, because no receipt does. Nothing here judges what a number means.
"""

from __future__ import annotations

import math
from typing import Any, Mapping, NamedTuple, Sequence

from aicostguard.ledger.errors import Refused
from aicostguard.receipt import FIELDS

#: what a score is of → what that is
KINDS: Mapping[str, str] = {
    "request": "a call: the label `request` of its receipt",
    "session": "a session: the label `session` of its receipts",
    "run": "a run of an evaluation; `model` says what was measured",
}
MOST_AT_ONCE = 1_000
#: larger numbers are mistakes; sums and squares of these stay exact enough
MOST = 1e12
_KEYS = {"name", "value", "model", "at", *KINDS}
_LABEL = FIELDS["request"]


class Score(NamedTuple):
    """One number."""

    name: str
    kind: str
    subject: str
    model: str
    at_ms: int
    value: float


def parse(body: Mapping[str, Any], now_ms: int) -> list[Score]:
    """The scores of `{"scores": [...]}` or of one by itself. Raises `Refused` (422) naming place, key and remedy."""
    if "scores" not in body:
        return [_score(body, "", now_ms)]
    listed = body["scores"]
    if set(body) != {"scores"} or not isinstance(listed, list) or not 1 <= len(listed) <= MOST_AT_ONCE:
        raise Refused(422, f"must be a list of 1 to {MOST_AT_ONCE} scores, and stand alone", "scores")
    made = []
    for place, item in enumerate(listed):
        if not isinstance(item, dict):
            raise Refused(422, "must be an object", f"scores[{place}]")
        made.append(_score(item, f"scores[{place}].", now_ms))
    return made


def _score(body: Mapping[str, Any], where: str, now_ms: int) -> Score:
    for key in body:
        if key not in _KEYS:
            raise Refused(422, f"is not a key of a score; known: {', '.join(sorted(_KEYS))}", where + _safe(key))
    name, value = body.get("name"), body.get("value")
    if not _LABEL.fits(name):
        raise Refused(422, f"is required: {_LABEL.expects}", where + "name")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= MOST:
        raise Refused(422, f"is required: a finite number between -{MOST:g} and {MOST:g}", where + "value")
    kinds = [kind for kind in KINDS if kind in body]
    if len(kinds) != 1:
        raise Refused(422, f"say what it is of by exactly one of {', '.join(KINDS)}", where + "request")
    kind = kinds[0]
    if not _LABEL.fits(body[kind]):
        raise Refused(422, f"must be {_LABEL.expects}", where + kind)
    model = body.get("model", "")
    if ("model" in body or kind == "run") and not FIELDS["model"].fits(model):
        raise Refused(422, "must name the model that was measured" + (", for a run" * (kind == "run")), where + "model")
    at = body.get("at", now_ms)
    if type(at) is not int or not 0 <= at <= now_ms + 86_400_000:
        raise Refused(422, "must be milliseconds since 1970, and not of the future", where + "at")
    return Score(str(name), kind, body[kind], model, at, float(value))


def _safe(name: object) -> str:
    return ascii(str(name)[:64])[1:-1]


class Quality(NamedTuple):
    """Scores of one name: how many, their mean, and where the true mean lies with 95 % confidence (Student's t)."""

    scores: int
    mean: float
    low: float | None
    high: float | None


def quality(count: int, total: float, squares: float) -> Quality:
    """From the number of scores, their sum, and the sum of their squares."""
    mean = total / count
    if count < 2:
        return Quality(count, mean, None, None)
    variance = max(0.0, (squares - total * mean) / (count - 1))
    half = student(count - 1) * math.sqrt(variance / count)
    return Quality(count, mean, mean - half, mean + half)


#: two-sided 95 % points of Student's t, by degrees of freedom; beyond, an expansion around the normal distribution
_STUDENT: Sequence[float] = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281, 2.2010, 2.1788, 2.1604),
    *(2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860, 2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555),
    *(2.0518, 2.0484, 2.0452, 2.0423),
)
_NORMAL = 1.959964


def student(freedom: float) -> float:
    """The factor of a 95 % interval for so many degrees of freedom, which need not be whole."""
    if freedom <= len(_STUDENT):
        low = max(1, int(freedom))
        high = min(low + 1, len(_STUDENT))
        return _STUDENT[low - 1] + (_STUDENT[high - 1] - _STUDENT[low - 1]) * (freedom - low)
    z = _NORMAL
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
