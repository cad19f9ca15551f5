"""A ledger with something to manage: budgets in every state, alerts, gaps, wrong clocks, a model without a price."""

from __future__ import annotations

import sqlite3
from typing import Any

from aicostguard import ledger
from aicostguard.ledger import ingest
from aicostguard.ledger.access import people, places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.people import Person
from aicostguard.ledger.alerts.office import Office
from aicostguard.ledger.alerts.watch import Settings, Watch
from aicostguard.ledger.budgets import given
from aicostguard.ledger.budgets.desk import Desk
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import epoch, receipt

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
BY = Actor("the tests")
#: as `POST /v1/budgets` takes them
BUDGETS: tuple[dict[str, Any], ...] = (
    {"name": "everything", "limit_usd": 400, "period": "total", "on_exceed": "warn"},
    {"name": "search", "limit_usd": 30, "period": "month", "match": {"team": "search"}, "on_exceed": "warn"},
    {"name": "checkout", "limit_usd": 2, "period": "week", "match": {"feature": "checkout"},
     "timezone": "Europe/Berlin"},
    {"name": "each user", "limit_usd": 1, "period": "day", "per": ["user"], "on_exceed": "warn"},
    {"name": "nightly jobs of the data platform: all of them", "limit_tokens": 5_000_000, "period": "day",
     "match": {"team": "data"}},
    {"name": "calls a minute", "limit_requests": 600, "period": "minute"},
    {"name": "experiments", "limit_usd": "0.5", "period": "total", "match": {"environment": "lab"}, "on_exceed": "log"},
)  # fmt: skip


def envelope(receipts: list[dict[str, Any]], at: list[int], name: str, **more: Any) -> dict[str, Any]:
    """What one process sends."""
    return {
        "schema": 1,
        "agent": "0.1.0",
        "epoch": name,
        "sent_at": ledger.now_ms(),
        "seq": list(range(len(receipts))),
        "at": at,
        "receipts": receipts,
        **more,
    }


def take(store: SqliteStore, body: dict[str, Any], project_id: int | None = None, now_ms: int | None = None) -> None:
    ingest.accept(store, project_id or store.default_project(), body, now_ms or ledger.now_ms(), price=None)


def fill(store: SqliteStore) -> None:
    """Spend of some days, of several hosts, as their agents would tell of it."""
    now = ledger.now_ms()
    teams = (("search", "answers"), ("shop", "checkout"), ("data", "nightly"), ("support", "chat"))
    for place, (team, feature) in enumerate(teams):
        receipts, at = [], []
        for step in range(160):
            receipts.append(
                receipt(
                    model=("gpt-4o", "gpt-4o-mini")[step % 2],
                    input_tokens=20_000 + 3_000 * place,
                    output_tokens=1_500 + 250 * (step % 7),
                    team=team,
                    feature=feature,
                    user=f"user-{step % 9}",
                )
            )
            at.append(now - (step * step % 160) * HOUR // 12 - 10 * place * MINUTE - (MINUTE if step else 0))
        origin = {"service": feature, "host": f"web-{place + 1}", "environment": "production", "release": "2026.11"}
        take(store, envelope(receipts, at, epoch(), counters={"generated": len(receipts)}, **origin))
    few = [receipt(model="llama-70b-house", provider="corp", input_tokens=900, output_tokens=90, team="search")] * 42
    take(store, envelope(few, [now] * 42, epoch(), service="search", host="gpu-1"))
    lab = [receipt(model="gpt-4o", input_tokens=90_000, output_tokens=9_000, team="search")] * 4
    take(store, envelope(lab, [now - 2 * HOUR] * 4, epoch(), service="notebook", host="lab-7", environment="lab"))
    # One that was killed, with receipts that never came; one with a wrong clock; one whose answer was lost on the way.
    gone = [receipt(team="search", feature="answers")] * 6
    body = envelope(gone, [now - 5 * HOUR] * 6, epoch(), service="answers", host="web-9")
    body.update(seq=[0, 1, 2, 6, 7, 9], sent_at=now - 5 * HOUR, counters={"generated": 12, "dropped": 1})
    take(store, body, now_ms=now - 5 * HOUR)
    ahead = envelope(gone, [now + 2 * HOUR] * 6, epoch(), service="mail", host="jobs-2")
    ahead["sent_at"] = now + 2 * HOUR
    take(store, ahead)
    take(store, ahead)


def budgets(store: SqliteStore, project_id: int | None = None) -> Desk:
    """Before `fill`: how fast one goes is known of what comes in from then on."""
    desk = Desk(store, ledger.now_ms)
    for body in BUDGETS:
        stated, spent, adjust = given.read_put(body, None)
        desk.put(project_id or store.default_project(), stated, "the tests", spent, adjust)
    return desk


def alerts(store: SqliteStore, desk: Desk) -> None:
    """Rules that fire by what `fill` has made."""
    watch = Watch(store, ledger.now_ms, Settings("http://127.0.0.1:8090", "localhost"), desk.catch_up)
    office = Office(watch, store.default_project(), BY, ledger.now_ms)
    office.change_rule("daily_spend", {"threshold": "0.05"})  # a minute past midnight, one call is all of the day's
    office.change_rule("single_request", {"threshold": "0.3"})
    office.add_rule({"name": "each team", "kind": "spend", "threshold": 1, "per": "team"})
    office.check()


def person(store: SqliteStore, email: str, role: str, name: str = "") -> Person:
    """An account with a role in the default project."""
    number = store.default_project()

    def job(connection: sqlite3.Connection) -> Person:
        made = people.add(connection, email, name, BY, ledger.now_ms())
        people.set_role(connection, made, "project", number, role, BY, ledger.now_ms())
        return made

    return store.change(job)


def project(store: SqliteStore, name: str) -> int:
    """Another project of the same organisation."""
    found = store.change(lambda connection: places.add_project(connection, 1, name, BY, ledger.now_ms()))
    return found.id
