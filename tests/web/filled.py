"""Ledgers to look at: one full of months of a company's calls, one with a single receipt, one with none.

Amounts and names follow from a seed, times from the present day; the minute decides how much of today there is.
"""

from __future__ import annotations

import random
from typing import Any, Iterator

from aicostguard import ledger
from aicostguard.ledger import ingest, scores
from aicostguard.ledger.access import keyring, places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.budgets import rule
from aicostguard.ledger.budgets.desk import Desk
from aicostguard.ledger.sqlite import SqliteStore, scored

DAY, HOUR = 86_400_000, 3_600_000
DAYS = 75
LONG = "summarise-a-customer-conversation-for-the-handover-to-the-second-level-support-team-in-the-evening"
ARCHIVIST = "archivist-of-everything-that-was-ever-read-by-any-reader"
#: feature → (team, agent, the agent that calls it, models, calls a day, input tokens, output tokens)
FEATURES: dict[str, tuple[str, str, str, tuple[str, ...], int, int, int]] = {
    "answer_question": ("search", "researcher", "", ("gpt-4o", "gpt-4o-mini"), 9, 3200, 450),
    "rerank_results": ("search", "ranker", "researcher", ("gpt-4o-mini",), 8, 5200, 60),
    "read_page": ("search", "reader", "researcher", ("claude-haiku-4-5",), 6, 9000, 300),
    "quote_sources": (
        "search",
        ARCHIVIST,
        "reader",
        ("claude-opus-4-1",),
        3,
        9000,
        90,
    ),
    "draft_reply": ("support", "writer", "", ("claude-sonnet-4-5", "gpt-4o"), 7, 2400, 700),
    LONG: ("support", "writer", "", ("claude-haiku-4-5",), 3, 14000, 900),
    "review_code": ("platform", "reviewer", "", ("claude-opus-4-1",), 3, 18000, 1500),
    "plan_release": ("platform", "planner", "", ("o3",), 1, 4000, 2500),
    "answer_review": ("platform", "reader", "planner", ("gpt-4o-mini",), 2, 1000, 300),
    "classify_ticket": ("support", "", "", ("gemini-2.5-flash",), 9, 700, 12),
    "translate": ("marketing", "translator", ARCHIVIST, ("gemini-2.5-pro", "gpt-4o-mini"), 4, 1500, 1400),
    "write_copy": ("marketing", "", "", ("house-model-7b",), 2, 900, 800),
}
_PROVIDERS = {"claude": "anthropic", "gemini": "google"}


def provider(model: str) -> str:
    return _PROVIDERS.get(model.split("-")[0], "openai")


def calls(chance: random.Random, now_ms: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """`(at_ms, receipt)`: more on workdays and by day, growing over the months, a jump of one feature last week."""
    for days_ago in range(DAYS, -1, -1):
        midnight = now_ms // DAY * DAY - days_ago * DAY
        quiet = (midnight // DAY + 3) % 7 >= 5
        for feature, (team, agent, parent, models, a_day, tokens_in, tokens_out) in FEATURES.items():
            often = a_day * (0.3 if quiet else 1.0) * (0.6 + 0.4 * (DAYS - days_ago) / DAYS)
            if feature == "review_code" and days_ago < 7:
                often *= 2.5
            for _ in range(int(often) + (chance.random() < often % 1)):
                at_ms = midnight + int(chance.triangular(0, DAY, 0.55 * DAY))
                model = chance.choice(models)
                # Made in any case, so that the minute of the day decides how many there are and not what they say.
                receipt = _receipt(chance, feature, team, agent, parent, model, tokens_in, tokens_out)
                if at_ms < now_ms - 1000:
                    yield at_ms, receipt


def _receipt(
    chance: random.Random, feature: str, team: str, agent: str, parent: str, model: str, tokens_in: int, tokens_out: int
) -> dict[str, Any]:
    size = chance.lognormvariate(0, 0.4)
    made: dict[str, Any] = {
        "provider": provider(model),
        "model": model,
        "input_tokens": int(tokens_in * size),
        "output_tokens": int(tokens_out * size),
        "latency_ms": int(400 * size + tokens_out * chance.uniform(1, 3)),
        "ttft_ms": int(250 * size),
        "feature": feature,
        "team": team,
        "user": f"user-{int(chance.paretovariate(1.1)) % 400:03d}",
        "session": f"session-{chance.randrange(2000)}",
        "request": f"req-{chance.getrandbits(48):012x}",
    }
    if agent:
        made["agent"] = agent
    if parent:
        made["parent_agent"] = parent
    if model.startswith("claude") and chance.random() < 0.6:
        made["cache_read_input_tokens"] = made["input_tokens"] * 7 // 10
    if model == "o3":
        made["reasoning_output_tokens"] = made["output_tokens"] * 3 // 4
    luck = chance.random()
    if luck < 0.03:
        made["estimated"] = True
    elif luck < 0.04:
        made["partial"] = True
    elif luck < 0.05:
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "reasoning_output_tokens"):
            made.pop(name, None)
        made["usage_missing"] = True
    return made


def send(
    store: SqliteStore, project_id: int, rows: list[tuple[int, dict[str, Any]]], epoch: str, **origin: str
) -> None:
    """Take receipts in, as an agent sends them."""
    now_ms = ledger.now_ms()
    price = store.book.cost if store.book is not None else None
    for first in range(0, len(rows), 500):
        part = rows[first : first + 500]
        body = {
            "schema": 1,
            "agent": "0.1.0",
            "epoch": epoch,
            "sent_at": now_ms,
            "seq": list(range(first, first + len(part))),
            "at": [at_ms for at_ms, _ in part],
            "receipts": [receipt for _, receipt in part],
            **origin,
        }
        reply = ingest.accept(store, project_id, body, now_ms, price=price)
        assert reply["accepted"] == len(part), reply


def fill(store: SqliteStore) -> None:
    """Months of a company's calls, budgets, scores, and a second project with costs of its own."""
    now_ms = ledger.now_ms()
    chance = random.Random(7)
    every = sorted(calls(chance, now_ms), key=lambda row: row[0])
    mine = store.default_project()
    send(store, mine, every[::2], "01TESTFILLED0000000000000A", service="shop", environment="production", release="41")
    send(store, mine, every[1::2], "01TESTFILLED0000000000000B", service="desk", environment="staging", release="42")
    desk = Desk(store, ledger.now_ms)
    for stated in (
        {"name": "everything", "limit_usd": "60", "period": "month", "alert_at": [0.5, 0.9]},
        {"name": "a day", "limit_usd": "4", "period": "day"},
        {"name": "support", "limit_usd": "40", "period": "month", "match": {"team": "support"}},
        {"name": "platform-team-and-its-very-long-running-agents-of-every-kind", "limit_usd": "5", "period": "month",
         "match": {"team": "platform"}},
        {"name": "by team", "limit_usd": "30", "period": "month", "per": ["team"]},
        {"name": "tokens", "limit_tokens": 80_000_000, "period": "month"},
    ):  # fmt: skip
        desk.put(mine, rule.read(stated), "tests")
    desk.catch_up()
    told = [
        {"name": "accuracy", "value": 0.8 + chance.random() / 5, "request": receipt["request"]}
        for _, receipt in every[-400:]
        if receipt["model"] in ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5")
    ]
    found = scores.parse({"scores": told}, now_ms)
    store.change(lambda connection: scored.put(connection, mine, found))

    def other(connection: Any) -> int:
        return places.add_project(connection, 1, "secret-lab", Actor("tests"), now_ms).id

    lab = store.change(other)
    rows = [
        (now_ms - hour * HOUR, _receipt(chance, "moonshot", "lab", "", "", "gpt-4o", 9000, 900)) for hour in range(40)
    ]
    send(store, lab, sorted(rows, key=lambda row: row[0]), "01TESTFILLED0000000000000C", service="lab")
    store.fold()


def key(store: SqliteStore, project: str = "default", **more: Any) -> str:
    """A key of a project, with what it may."""
    more.setdefault("scopes", ("ingest", "read", "manage"))
    store.default_project()

    def job(connection: Any) -> str:
        number = places.project_named(connection, project).id
        return keyring.add(connection, number, actor=Actor("tests"), now_ms=ledger.now_ms(), **more)[0]

    return store.change(job)
