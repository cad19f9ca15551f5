"""The chart that goes with a message: what it speaks of, beside what came before.

Owns which chart belongs to which kind of rule, and that no message ever waits long for one or fails with it: what
cannot be drawn is counted, and the message goes without. After a failure no chart is tried for a while.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from datetime import datetime
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from aicostguard.ledger import period, query
from aicostguard.ledger.alerts import words
from aicostguard.ledger.alerts.outbox import Notice
from aicostguard.ledger.apart import Cuts
from aicostguard.ledger.budgets import rule as of_budget
from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.model import DAY_MS, HOUR_MS, TIMES, known
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.ledger.web.charts import bars, draw, spend
from aicostguard.ledger.web.charts.chart import Chart

log = logging.getLogger("aicostguard.ledger")
#: the setting that switches charts off in messages: `0`
SETTING = "AICG_ALERT_CHARTS"
MEDIA_TYPE = "image/png"
WIDTH, SCALE = 640, 1.5
#: bytes of a picture, which travels inside a message
MOST_BYTES = 300_000
DEADLINE_S = 15.0
#: after a failure, seconds without another try
REST_S = 60.0
#: pictures that are kept: one message goes to several channels, and is tried again
KEPT = 16
#: period of a spend rule → how many of them before the present one are shown
_BEFORE = {"hour": 23, "day": 13, "week": 7, "month": 5}

Parameters = dict[str, Any]
Asker = Callable[[Parameters], dict[str, Any]]


class Picture(NamedTuple):
    """A PNG, what it is called, and what it says to who does not see it."""

    data: bytes
    title: str
    says: str


class Pictures:
    """Charts for the messages of one ledger. `counts`: how many were `drawn`, `failed`, or `none` (nothing to draw)."""

    def __init__(self, store: SqliteStore, cuts: Cuts) -> None:
        self._store = store
        self._cuts = cuts
        self._lock = threading.Lock()
        self._kept: dict[tuple[int, str], Picture | None] = {}
        self._rests_until = 0.0
        self.counts: Counter[str] = Counter(drawn=0, failed=0, none=0)

    def of(self, notice: Notice, project_id: int, now_ms: int) -> Picture | None:
        """The picture of a notice, or None. Never raises; takes some seconds at most."""
        if notice.event == "resolved" or not draw.able():
            return None
        # Those that go to several channels say the same: they differ in their keys alone.
        key = (project_id, f"{notice.event} {notice.created_ms} {notice.message['rule']} {notice.message['alerts']}")
        with self._lock:
            if key not in self._kept:
                if time.monotonic() < self._rests_until:
                    self.counts["failed"] += 1
                    return None
                self._kept[key] = self._made(notice.message, project_id, min(notice.created_ms, now_ms))
                while len(self._kept) > KEPT:
                    self._kept.pop(next(iter(self._kept)))
            return self._kept[key]

    def _made(self, message: Mapping[str, Any], project_id: int, now_ms: int) -> Picture | None:
        def ask(parameters: Parameters) -> dict[str, Any]:
            given = {name: [value] if isinstance(value, str) else list(value) for name, value in parameters.items()}
            return query.run(self._store, query.parse(given, project_id, now_ms))

        try:
            found = chart(message, ask, now_ms)
            if found is None or found.spec is None:
                self.counts["none"] += 1
                return None
            data = draw.draw(found, "png", width=WIDTH, scale=SCALE, deadline_s=DEADLINE_S, cuts=self._cuts)
            if len(data) > MOST_BYTES:
                raise draw.NotDrawn(f"the picture has {len(data):,} bytes, more than {MOST_BYTES:,}")
        except Exception as error:
            self.counts["failed"] += 1
            self._rests_until = time.monotonic() + REST_S
            # The text of an unforeseen error may quote a name of the data.
            said = str(error) if isinstance(error, LedgerError) else type(error).__name__
            log.warning("an alert of the rule %s goes without its chart: %s", words.name(message["rule"]), said)
            return None
        self.counts["drawn"] += 1
        return Picture(data, found.title, " ".join((found.description, *found.notes)))


def chart(message: Mapping[str, Any], ask: Asker, now_ms: int) -> Chart | None:
    """The chart of a message's first alert, or None where money is not what it speaks of."""
    make = _CHARTS.get(message["kind"])
    return None if make is None else make(message, message["alerts"][0], ask, now_ms)


def _spend(message: Mapping[str, Any], alert: Mapping[str, Any], ask: Asker, now_ms: int) -> Chart:
    """The period that is over its line beside those before it, by the clock of the rule."""
    unit, zone = message["period"], message.get("timezone") or "UTC"
    first = _ms(alert["view"]["since"])
    for _ in range(_BEFORE[unit]):
        first = of_budget.bounds(unit, zone, first - 1)[0]
    asked = _filters(alert["view"]) | {"since": _iso(first), "until": alert["view"]["until"], "tz": zone}
    line = spend.Line(f"threshold {words.cents(alert['line_nano'])}", alert["line_nano"])
    return _over_time(ask, asked, unit, [line])


def _last_day(message: Mapping[str, Any], alert: Mapping[str, Any], ask: Asker, now_ms: int) -> Chart:
    """The day up to now, hour by hour."""
    asked = _filters(alert["view"]) | {"since": _iso(now_ms - DAY_MS - now_ms % HOUR_MS), "until": _iso(now_ms)}
    return _over_time(ask, asked, "hour")


def _viewed(message: Mapping[str, Any], alert: Mapping[str, Any], ask: Asker, now_ms: int) -> Chart:
    """The period of the alert's own view."""
    view = alert["view"]
    asked = {**_filters(view), "since": view["since"], "until": view["until"], "tz": view.get("tz", "UTC")}
    return _over_time(ask, asked, _unit(_ms(view["until"]) - _ms(view["since"])))


def _asked(message: Mapping[str, Any], alert: Mapping[str, Any], ask: Asker, now_ms: int) -> Chart | None:
    """Of a question: the group that is told of among the others."""
    if alert["unit"] != "usd":
        return None
    view, group = alert["view"], alert["group"]
    by = [name for text in _several(view.get("group_by", ())) for name in text.split(",") if name]
    if not by or any(name in TIMES for name in by):
        return _viewed(message, alert, ask, now_ms)
    asked = {name: value for name, value in _filters(view).items() if name not in group}
    asked |= {"since": view["since"], "until": view["until"], "tz": view.get("tz", "UTC"), "group_by": ",".join(by)}
    return bars.breakdown(ask(asked))


_CHARTS: Mapping[str, Callable[..., Chart | None]] = {
    "spend": _spend,
    "single_request": _last_day,
    "rate_spike": _last_day,
    "budget": _viewed,
    "cost_per_call": _viewed,
    "query": _asked,
    "test": _last_day,
}


def _over_time(ask: Asker, asked: Parameters, unit: str, lines: Sequence[spend.Line] = ()) -> Chart:
    answer = ask({**asked, "group_by": f"{unit},model", "limit": str(query.MAX_LIMIT)})
    return spend.spend(answer, lines=lines, most=7)


def _filters(view: Mapping[str, Any]) -> Parameters:
    """Of a view what chooses receipts."""
    return {
        name: value
        for name, value in view.items()
        if known(name.removesuffix(query.NOT)) and (isinstance(value, str) or value)
    }


def _several(value: str | Sequence[str]) -> Sequence[str]:
    return (value,) if isinstance(value, str) else value


def _unit(length_ms: int) -> str:
    return "hour" if length_ms <= 2 * DAY_MS else "day" if length_ms <= 92 * DAY_MS else "month"


def _ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def _iso(at_ms: int) -> str:
    return period.iso(at_ms, period.zone("UTC"))
