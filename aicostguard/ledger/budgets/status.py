"""What is told of budgets: figures, how fast money goes, when it is gone, alerts, and the policy for agents.

Owns the shape of these answers, the same for API and CLI. Decides nothing. Money is exact text beside its integer;
rates and shares are for people.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import Any, Iterable, Mapping
from zoneinfo import ZoneInfo

from aicostguard.guard.policy import Budget
from aicostguard.ledger import period
from aicostguard.ledger.budgets import book, counters, leases, owner, rule
from aicostguard.ledger.budgets.book import Kept
from aicostguard.ledger.budgets.counters import Balance

#: scopes of one budget that are told, the fullest first
SCOPES = 100
#: the far future is no forecast
_FARTHEST_MS = 366 * 86_400_000
_UTC = ZoneInfo("UTC")


def budgets(connection: sqlite3.Connection, place: int, now_ms: int, wide: bool = True) -> dict[str, Any]:
    """`{"budgets": [...]}`: every rule that holds at a place with what stands in it.

    Who does not see the organisation (`wide`) is told of its rules apart, and not what stands in them.
    """
    every = book.over(connection, place)
    told = [one(connection, kept, now_ms) for kept in every if wide or not kept.shared]
    apart = [kept for kept in every if kept.shared and not wide]
    return {"budgets": told, **({"of_organisation": [bare(kept, now_ms) for kept in apart]} if apart else {})}


def bare(kept: Kept, now_ms: int) -> dict[str, Any]:
    """What everybody may know of a rule that holds for them: neither what stands in it nor how much it is about."""
    resets = rule.resets(kept.budget, now_ms)
    hidden = (rule.LIMITS[kept.budget.unit], "alert_at")
    return {
        **{name: value for name, value in rule.written(kept.budget).items() if name not in hidden},
        "unit": rule.LIMITS[kept.budget.unit][6:],
        "resets_at": None if resets is None else period.iso(resets, _zone(kept.budget)),
    }


def one(connection: sqlite3.Connection, kept: Kept, now_ms: int, scopes: int = SCOPES) -> dict[str, Any]:
    """One budget: its rule, and its figures by scope. A budget for all together has them at the top as well."""
    budget = kept.budget
    whole = not budget.per and budget.period not in ("call", "session")
    listed = [rule.scope(budget, {})] if whole else counters.scopes(connection, kept, now_ms, scopes + 1)
    rows = [_scope(connection, kept, scope, now_ms) for scope in listed[:scopes]]
    out = {
        **rule.written(budget),
        "reach": owner.reach(kept.owner),
        "limit": _number(budget, budget.limit),
        "revision": kept.revision,
        "changed_at": period.iso(kept.changed_ms, _UTC),
        "scopes": rows,
        "more_scopes": len(listed) > scopes,
    }
    if whole:
        out["spent"] = _number(budget, counters.balance(connection, kept, listed[0], now_ms).spent)
        out.update({name: value for name, value in rows[0].items() if name != "scope"})
    return out


def _number(budget: Budget, amount: int) -> float | int:
    """For whoever wants one number; money loses nothing that a double can hold."""
    return amount / 10**9 if budget.unit == "nanousd" else amount


def _scope(connection: sqlite3.Connection, kept: Kept, scope: str, now_ms: int) -> dict[str, Any]:
    budget = kept.budget
    found = counters.balance(connection, kept, scope, now_ms)
    resets = rule.resets(budget, now_ms)
    used = counters.utilization(found.spent, budget.limit)
    amounts = {"spent": found.spent, "reserved": found.reserved, "remaining": _left(budget, found)}
    rate = _rate(budget, found)
    return {
        "scope": rule.named(budget, scope),
        **{rule.keyed(budget, name): rule.told(budget, amount) for name, amount in amounts.items()},
        "utilization": used / 1000,
        "state": state(budget, found),
        "calls": found.calls,
        "unpriced_calls": found.unknown if budget.unit == "nanousd" else 0,
        "usage_missing_calls": found.unknown if budget.unit == "tokens" else 0,
        "estimated_calls": found.estimated,
        rule.keyed(budget, "lapsed"): rule.told(budget, found.lapsed),
        "resets_at": None if resets is None else period.iso(resets, _zone(budget)),
        rule.keyed(budget, "burn_per_hour"): round(rate, 6) if budget.unit == "nanousd" else round(rate),
        "exhausted_at": _exhausted(budget, found, resets, now_ms),
    }


def _left(budget: Budget, found: Balance) -> int:
    return max(0, budget.limit - found.spent - found.reserved)


def _rate(budget: Budget, found: Balance) -> float:
    return found.rate / 10**9 if budget.unit == "nanousd" else found.rate


def state(budget: Budget, found: Balance) -> str:
    """`exceeded`: nothing is left; `warning`: a threshold is passed; `ok`."""
    if found.spent >= budget.limit and (found.spent or not budget.limit):
        return "exceeded" if found.spent else "ok"
    passed = any(counters.utilization(found.spent, budget.limit) >= share for share in budget.alert_at)
    return "warning" if passed else "ok"


def _exhausted(budget: Budget, found: Balance, resets: int | None, now_ms: int) -> str | None:
    """When nothing will be left at the present rate; None when that is not before the period ends, or very far off."""
    if found.rate <= 0:
        return None
    at_ms = now_ms + int(min(_left(budget, found) / found.rate * 3_600_000, 2 * _FARTHEST_MS))
    if at_ms - now_ms > _FARTHEST_MS or (resets is not None and at_ms >= resets):
        return None
    return period.iso(at_ms, _zone(budget))


def _zone(budget: Budget) -> ZoneInfo:
    return ZoneInfo(budget.timezone)


def detailed(connection: sqlite3.Connection, place: int, name: str, now_ms: int) -> dict[str, Any]:
    """One budget with its history and its alerts. Raises `Refused` (404)."""
    kept = book.need(connection, place, name)
    return {
        **one(connection, kept, now_ms),
        "history": [
            {**change._asdict(), "at": period.iso(change.at_ms, _UTC)}
            for change in book.history(connection, kept.owner, name)
        ],
        **alerts(connection, kept.owner, budget=name),
    }


def alerts(
    connection: sqlite3.Connection, of: int, budget: str | None = None, since_ms: int = 0, limit: int = 100
) -> dict[str, Any]:
    """`{"alerts": [...]}` of an owner, the newest first: each threshold once for a period and a scope."""
    wanted = "" if budget is None else "AND budget_alerts.budget = ? "
    found = connection.execute(
        'SELECT budget_alerts.budget, scope, start_ms, threshold, at_ms, spent, "limit", unit, text, budgets.rule '
        "FROM budget_alerts LEFT JOIN budgets ON budgets.project_id = budget_alerts.project_id "
        f"AND budgets.name = budget_alerts.budget WHERE budget_alerts.project_id = ? AND at_ms >= ? {wanted}"
        "ORDER BY at_ms DESC, threshold DESC, scope LIMIT ?",
        (of, since_ms, *(() if budget is None else (budget,)), limit),
    )
    return {"alerts": [_alert(*row) for row in found]}


def _alert(
    name: str,
    scope: str,
    start_ms: int,
    threshold: int,
    at_ms: int,
    spent: int,
    limit: int,
    unit: str,
    text: str,
    rule_text: str | None,
) -> dict[str, Any]:
    as_rule = Budget(name, limit, unit)
    kept = None if rule_text is None else rule.loaded(rule_text)
    values = json.loads(scope)
    named = rule.named(kept, scope) if kept is not None and len(rule.named(kept, scope)) == len(values) else values
    return {
        "budget": name,
        "scope": named,
        "threshold": threshold / 1000,
        "at": period.iso(at_ms, _UTC),
        "period_since": period.iso(start_ms, _UTC) if start_ms else None,
        rule.keyed(as_rule, "spent"): rule.told(as_rule, spent),
        rule.LIMITS[unit]: rule.told(as_rule, limit),
        "text": text,
    }


def policy(connection: sqlite3.Connection, project_id: int) -> dict[str, Any]:
    """What agents are given: the rules, and nothing of what stands in them."""
    kept = book.over(connection, project_id)
    return {
        "version": 1,
        "name": f"ledger-project-{project_id}",
        **book.settings(connection, project_id),
        "budgets": [rule.written(item.budget) for item in kept],
    }


def lent(kept: Kept | None, given: leases.Lent | None, now_ms: int, wide: bool = True) -> dict[str, Any]:
    """What a process is told of what it asked for; amounts are integers of the rule's unit. `gone`: no such budget.

    A process goes on within what was left when the ledger is away: so it is told that, and of a shared budget no more,
    unless its key sees the organisation.
    """
    if kept is None or given is None:
        return {"gone": True, "granted": 0}
    spent, reserved = given.balance.spent, given.balance.reserved
    if kept.shared and not wide:
        spent, reserved = spent + reserved, 0
    return {
        "granted": given.granted,
        "refused": given.refused,
        "lost": given.lost,
        "unit": kept.budget.unit,
        "limit": kept.budget.limit,
        "spent": spent,
        "reserved": reserved,
        "resets_ms": rule.resets(kept.budget, now_ms),
    }


def etag(answer: Mapping[str, Any]) -> str:
    """The same for the same policy, whoever asks and whenever."""
    text = json.dumps(answer, sort_keys=True, separators=(",", ":"))
    return '"' + hashlib.sha256(text.encode()).hexdigest()[:32] + '"'


def exceeded(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names of budgets, of an answer of `budgets`, in which nothing is left anywhere."""
    return [row["name"] for row in rows if any(scope["state"] == "exceeded" for scope in row["scopes"])]
