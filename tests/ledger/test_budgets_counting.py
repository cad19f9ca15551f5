"""Each call counts once in a budget, by whatever way it is told of; and counting anew changes nothing."""

from __future__ import annotations

import random
import sqlite3
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aicostguard import ledger
from aicostguard.guard import stated
from aicostguard.ledger.access import audit
from aicostguard.ledger.budgets import ask, book, counted, counters, leases, rule
from aicostguard.ledger.budgets.desk import Desk, Exceeded, Granted
from aicostguard.ledger.sqlite import SqliteStore, salvage
from tests.ledger.support import NOW, envelope, epoch, receipt, take

COST = 330  # nano-dollars of a `receipt()` at the tests' price


class At:
    """A desk whose clock the test sets."""

    def __init__(self, store: SqliteStore, now_ms: int = NOW) -> None:
        self.now_ms = now_ms
        self.store = store
        self.desk = Desk(store, lambda: self.now_ms)
        self.project = store.default_project()

    def put(self, **given: Any) -> None:
        self.desk.put(self.project, stated.budget(given), "test")

    def balance(self, name: str = "default", **labels: str) -> counters.Balance:
        self.desk.catch_up()

        def read(connection: sqlite3.Connection) -> counters.Balance:
            kept = book.need(connection, self.project, name)
            return counters.balance(connection, kept, rule.scope(kept.budget, labels), self.now_ms)

        return self.store.look(read)

    def may(self, nanousd: int, lease_s: int = 600, **labels: str) -> Granted | Exceeded:
        asking = ask.Asking({"model": "gpt-4o", **labels}, nanousd, 10, False, lease_s)
        return self.desk.authorize(self.project, asking, None, "")

    def ticket(self, nanousd: int, **more: Any) -> str:
        found = self.may(nanousd, **more)
        assert isinstance(found, Granted), found
        return found.ticket.id

    def settle(self, number: str, nanousd: int | None = None) -> str:
        used = ask.Used(release=True) if nanousd is None else ask.Used(nanousd=nanousd)
        return self.desk.settle(self.project, number, used)[0].state

    def lend(self, holder: str, at_least: int | None = None, exactly: int | None = None, **more: Any) -> leases.Lent:
        asked = leases.Asked(more.get("scope", "[]"), more.get("turn", 0), more.get("have", 0), at_least, exactly)
        ((_, lent),) = self.desk.lend(self.project, holder, [(more.get("name", "default"), asked)])
        assert lent is not None
        return lent

    def everything(self) -> list[tuple[Any, ...]]:
        """All counters that hold anything, but for their burn rates."""
        self.desk.catch_up()
        return self.store.look(
            lambda connection: connection.execute(
                "SELECT budget_id, scope, start_ms, spent, reserved, calls, unpriced, estimated FROM budget_counters "
                "WHERE spent OR reserved OR calls OR unpriced ORDER BY 1, 2, 3"
            ).fetchall()
        )


@pytest.fixture
def at(store: SqliteStore) -> At:
    return At(store)


def spent(balance: counters.Balance) -> tuple[int, int, int]:
    return balance.spent, balance.reserved, balance.calls


def test_what_came_before_the_budget_counts_and_what_comes_twice_does_not(at: At) -> None:
    take(at.store, envelope([receipt()] * 3))
    at.put(name="default", limit_usd=1)
    assert spent(at.balance()) == (3 * COST, 0, 3)
    for _ in range(2):
        take(at.store, envelope([receipt()] * 5))  # three of them were there
    assert spent(at.balance()) == (5 * COST, 0, 5)
    take(at.store, receipt(), idempotency_key="one")
    take(at.store, receipt(), idempotency_key="one")
    assert spent(at.balance()) == (6 * COST, 0, 6)


@pytest.mark.ids("D4")
def test_counting_anew_inflates_nothing_however_often(at: At) -> None:
    at.put(name="default", limit_usd=1)
    at.put(name="teams", limit_usd=1, per=["team"], period="month")
    at.put(name="tokens", limit_tokens=10**6, match={"tags.tier": "gold"})
    at.put(name="rate", limit_requests=100, per=["team"], period="minute")
    bodies = [receipt(team=str(n % 3), tags={"tier": "gold" if n % 2 else "tin"}) for n in range(20)]
    take(at.store, envelope(bodies))
    at.ticket(500, team="1")
    at.settle(at.ticket(500, team="2"), 400)
    at.lend("01HOLDER", at_least=1000)
    before = at.everything()
    assert len(before) >= 8
    for _ in range(3):
        at.desk.rebuild(at.project, [], "test")
        assert at.everything() == before


def test_a_counter_that_is_wrong_is_put_right_by_counting_anew(at: At) -> None:
    at.put(name="default", limit_usd=1)
    take(at.store, envelope([receipt()] * 4))
    at.ticket(700)
    before = at.everything()
    at.store.change(
        lambda connection: connection.execute("UPDATE budget_counters SET spent = spent * 7, reserved = 5, calls = 0")
    )
    assert at.everything() != before
    at.desk.rebuild(at.project, ["default"], "test")
    assert at.everything() == before


def test_counting_anew_while_receipts_come_in(at: At) -> None:
    at.put(name="default", limit_usd=1)
    take(at.store, envelope([receipt()] * 2))
    at.desk.catch_up()
    take(at.store, envelope([receipt()] * 3, name=epoch()))  # stored, not counted yet
    (kept,) = at.store.look(book.everybody)
    found = at.store.look(lambda connection: counted.scan(connection, kept, at.now_ms))
    take(at.store, envelope([receipt()] * 5, name=epoch()))
    at.desk.catch_up()  # counted between the two steps
    take(at.store, envelope([receipt()] * 7, name=epoch()))
    assert at.store.change(lambda connection: counted.settle(connection, found, at.now_ms))
    assert spent(at.balance()) == (17 * COST, 0, 17)


def test_a_changed_rule_counts_what_it_now_means(at: At) -> None:
    take(at.store, envelope([receipt(team="a"), receipt(team="b"), receipt()]))
    at.put(name="default", limit_usd=1)
    ticket = at.ticket(1000, team="a")
    at.put(name="default", limit_usd=2)
    assert spent(at.balance()) == (3 * COST, 1000, 3)
    at.put(name="default", limit_usd=2, match={"team": "a"})
    assert spent(at.balance()) == (COST, 1000, 1)
    at.put(name="default", limit_tokens=9000, per=["team"])
    assert [spent(at.balance(team=team)) for team in ("a", "b", "")] == [(110, 10, 1), (110, 0, 1), (110, 0, 1)]
    at.settle(ticket, 900)
    at.put(name="default", limit_usd=2, match={"team": "a"})
    assert spent(at.balance()) == (COST + 900, 0, 2)


def test_arrivals_that_were_forgotten_before_they_were_counted(at: At, monkeypatch: pytest.MonkeyPatch) -> None:
    at.put(name="default", limit_usd=1)
    late = at.ticket(5000, lease_s=10)
    monkeypatch.setattr("aicostguard.ledger.sqlite.arrived.REMEMBERED", 3)
    monkeypatch.setattr("aicostguard.ledger.sqlite.arrived.FORGET_EVERY", 2)
    take(at.store, envelope([receipt(request=late)], name=epoch()))
    for _ in range(12):
        take(at.store, envelope([receipt()], name=epoch()))
    assert spent(at.balance()) == (13 * COST, 0, 13)
    at.now_ms += 20_000
    assert spent(at.balance()) == (13 * COST, 0, 13), "the ticket's receipt was found: nothing lapses"


def test_salvage_takes_budgets_along(at: At, tmp_path: Path) -> None:
    at.put(name="default", limit_usd=1, period="month")
    at.desk.put(at.project, stated.budget({"name": "default", "limit_usd": 1, "period": "month"}), "test", 5000, True)
    take(at.store, envelope([receipt()] * 3))
    settled = at.ticket(900)
    at.settle(settled, 700)
    take(at.store, envelope([receipt(request=settled)], name=epoch()))
    before = spent(at.balance())
    assert before == (5000 + 3 * COST + 700, 0, 4)
    other = ledger.open_ledger(str(tmp_path / "other.db"))
    try:
        salvage.salvage(at.store.path, other)
        there = At(other)
        assert spent(there.balance()) == before
        salvage.salvage(at.store.path, other)
        assert spent(there.balance()) == before
    finally:
        other.close()


# A call is told of by its ticket and by its receipt.


def test_settled_then_its_receipt_counts_what_was_settled(at: At) -> None:
    at.put(name="default", limit_usd=1)
    ticket = at.ticket(1000)
    assert spent(at.balance()) == (0, 1000, 0)
    assert at.settle(ticket, 600) == "settled"
    assert spent(at.balance()) == (600, 0, 1)
    take(at.store, envelope([receipt(request=ticket), receipt()]))
    assert spent(at.balance()) == (600 + COST, 0, 2)
    assert at.settle(ticket, 9) == "settled"
    assert at.settle(ticket) == "settled"
    assert spent(at.balance()) == (600 + COST, 0, 2)


def test_its_receipt_first_settles_it(at: At) -> None:
    at.put(name="default", limit_usd=1)
    ticket = at.ticket(1000)
    take(at.store, envelope([receipt(request=ticket)] * 2))  # two models answered: both are billed
    assert spent(at.balance()) == (2 * COST, 0, 2)
    assert at.settle(ticket, 600) == "receipt"
    assert spent(at.balance()) == (2 * COST, 0, 2)


def test_released_and_billed_all_the_same(at: At) -> None:
    at.put(name="default", limit_usd=1)
    ticket = at.ticket(1000)
    assert at.settle(ticket) == "released"
    assert spent(at.balance()) == (0, 0, 0)
    take(at.store, envelope([receipt(request=ticket)]))
    assert spent(at.balance()) == (COST, 0, 1)


@pytest.mark.ids("D11")
@pytest.mark.parametrize("then", ["nothing", "settle", "release", "receipt"])
def test_a_holder_that_dies_is_booked_whole_until_somebody_knows_better(at: At, then: str) -> None:
    at.put(name="default", limit_usd=1)
    ticket = at.ticket(1000, lease_s=60)
    at.now_ms += 59_999
    assert spent(at.balance()) == (0, 1000, 0)
    at.now_ms += 1
    assert (*spent(at.balance()), at.balance().estimated) == (1000, 0, 1, 1)
    if then == "settle":
        at.settle(ticket, 600)
    elif then == "release":
        at.settle(ticket)
    elif then == "receipt":
        take(at.store, envelope([receipt(request=ticket)]))
    expected = {"nothing": (1000, 0, 1), "settle": (600, 0, 1), "release": (0, 0, 0), "receipt": (COST, 0, 1)}[then]
    assert spent(at.balance()) == expected
    at.desk.rebuild(at.project, [], "test")
    assert spent(at.balance()) == expected


# Periods.


def _ms(*when: int, tz: str = "UTC") -> int:
    return int(datetime(*when, tzinfo=ZoneInfo(tz)).timestamp() * 1000)  # type: ignore[misc, arg-type]


@pytest.mark.ids("D5", "X6", "A07")
@pytest.mark.parametrize(
    "period,zone,last,first",
    [
        ("day", "UTC", (2026, 11, 28, 23, 59, 59), (2026, 11, 29)),
        ("day", "America/New_York", (2026, 11, 1, 23, 59, 59), (2026, 11, 2)),  # a day of 25 hours
        ("day", "Europe/Berlin", (2026, 3, 29, 23, 59, 59), (2026, 3, 30)),  # one of 23
        ("day", "Asia/Kathmandu", (2026, 11, 28, 23, 59, 59), (2026, 11, 29)),
        ("week", "Europe/Berlin", (2026, 11, 29, 23, 59, 59), (2026, 11, 30)),
        ("month", "Pacific/Auckland", (2026, 11, 30, 23, 59, 59), (2026, 12, 1)),
        ("hour", "Asia/Kolkata", (2026, 11, 29, 13, 59, 59), (2026, 11, 29, 14)),
    ],
)
def test_a_period_ends_where_its_zone_says(
    store: SqliteStore, period: str, zone: str, last: tuple[int, ...], first: tuple[int, ...]
) -> None:
    before, after = _ms(*last, tz=zone), _ms(*first, tz=zone)
    assert after - before == 1000
    at = At(store, before)
    at.put(name="default", limit_usd=1, period=period, timezone=zone)
    take(store, envelope([receipt()]), received_ms=before)
    at.ticket(500)
    assert spent(at.balance()) == (COST, 500, 1)
    refused = at.may(10**9)
    assert isinstance(refused, Exceeded)
    assert refused.resets_ms == after
    at.now_ms = after
    assert spent(at.balance()) == (0, 0, 0)
    take(store, envelope([receipt()] * 2, name=epoch()), received_ms=after)
    assert spent(at.balance()) == (2 * COST, 0, 2)
    at.desk.rebuild(at.project, [], "test")
    assert spent(at.balance()) == (2 * COST, 0, 2)


@pytest.mark.ids("B09")
def test_a_minute_is_the_sixty_seconds_up_to_now(store: SqliteStore) -> None:
    start = _ms(2026, 11, 29, 12, 0, 30)
    at = At(store, start)
    at.put(name="default", limit_tokens=300, period="minute")
    take(store, envelope([receipt()] * 2), received_ms=start)  # 220 tokens
    assert at.balance().spent == 220
    assert isinstance(at.may(0), Granted)  # 10
    at.now_ms += 59_000
    take(store, envelope([receipt()], name=epoch()), received_ms=at.now_ms)
    assert (at.balance().spent, at.balance().reserved) == (330, 10)
    assert isinstance(at.may(0), Exceeded)
    at.now_ms += 1_000
    assert (at.balance().spent, at.balance().reserved) == (110, 0)
    assert isinstance(at.may(0), Granted)


def test_a_session_has_a_budget_of_its_own(at: At) -> None:
    at.put(name="default", limit_usd="0.000001", period="session")
    assert isinstance(at.may(800, session="a"), Granted)
    assert isinstance(at.may(800, session="a"), Exceeded)
    assert isinstance(at.may(800, session="b"), Granted)


def test_how_fast_money_goes_fades(at: At) -> None:
    at.put(name="default", limit_usd=1)
    take(at.store, envelope([receipt()] * 100))
    fresh = at.balance().rate
    assert fresh == pytest.approx(100 * COST, rel=0.05)
    at.now_ms += 3_600_000
    assert at.balance().rate == pytest.approx(fresh / 2.718281828, rel=0.001)


# Leases.


@pytest.mark.ids("Z2")
def test_room_is_lent_once_and_receipts_turn_it_into_spent(at: At) -> None:
    at.put(name="default", limit_usd="0.00001")  # 10,000
    first = at.lend("01HOLDERA", at_least=1600)
    assert first.granted == 1600 + (10_000 - 1600) // leases.SHARE
    again = at.lend("01HOLDERA", at_least=1600)
    assert again.granted == first.granted, "a lost answer asked for again"
    assert spent(at.balance()) == (0, first.granted, 0)
    take(at.store, envelope([receipt()] * 3, name="01HOLDERA"))
    assert spent(at.balance()) == (3 * COST, first.granted - 3 * COST, 3)
    take(at.store, envelope([receipt()], name="01HOLDERB"))
    assert spent(at.balance()) == (4 * COST, first.granted - 3 * COST, 4)
    room = 10_000 - 4 * COST - (first.granted - 3 * COST)
    assert at.lend("01HOLDERB", at_least=room + 1).refused
    assert at.lend("01HOLDERB", at_least=room).granted == room
    assert at.balance().spent + at.balance().reserved == 10_000
    back = at.lend("01HOLDERA", exactly=3 * COST, have=first.granted)
    assert back.granted == 3 * COST
    assert spent(at.balance()) == (4 * COST, room, 4)
    assert at.lend("01HOLDERA", exactly=3 * COST, have=first.granted).granted == 3 * COST


def test_a_silent_holder_loses_what_it_has_and_that_is_told(at: At) -> None:
    at.put(name="default", limit_usd="0.00001")
    granted = at.lend("01HOLDERA", at_least=5000).granted
    take(at.store, envelope([receipt()], name="01HOLDERA"))
    at.now_ms += leases.LEASE_S * 1000 - 1
    at.lend("01HOLDERA", at_least=100, have=granted)
    at.now_ms += leases.LEASE_S * 1000 - 1
    assert at.balance().reserved == granted - COST
    at.now_ms += 1
    assert (*spent(at.balance()), at.balance().lapsed) == (COST, 0, 1, granted - COST)
    lost = at.lend("01HOLDERA", at_least=granted + 1, have=granted)
    assert (lost.lost, lost.granted) == (True, 0)
    assert at.lend("01HOLDERA", at_least=10, turn=1).granted >= 10
    assert at.balance().reserved < 1000, "what it had before is not lent twice"


def test_another_turn_gives_back_what_the_one_before_had(at: At) -> None:
    at.put(name="default", limit_usd="0.00001")
    at.lend("01HOLDERA", at_least=5000)
    second = at.lend("01HOLDERA", at_least=10, turn=1)
    assert at.balance().reserved == second.granted


# Whatever happens in whatever order.

_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["receipts", "may", "settle", "release", "told", "wait", "lend", "back", "change", "anew"]),
        st.integers(0, 2**16),
    ),
    max_size=25,
)


@pytest.mark.ids("D3", "D4", "Z2")
@settings(max_examples=25, deadline=None)
@given(steps=_STEPS)
def test_counters_are_what_the_books_say_after_every_step(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    store = ledger.open_ledger(str(tmp_path_factory.mktemp("books") / "ledger.db"))
    try:
        at = At(store)
        at.put(name="default", limit_usd="0.00001")
        at.put(name="teams", limit_usd="0.000006", per=["team"], period="day")
        open_tickets: list[str] = []
        granted = 0
        for step, number in steps:
            pick = random.Random(number)
            team = pick.choice(["a", "b", ""])
            labels = {"team": team} if team else {}
            if step == "receipts":
                name = pick.choice(["01HOLDERA", epoch()])
                take(store, envelope([receipt(**labels)], first=number, name=name), received_ms=at.now_ms)
            elif step == "may":
                found = at.may(pick.randrange(4000), **labels)
                if isinstance(found, Granted):
                    open_tickets.append(found.ticket.id)
            elif step in ("settle", "release", "told") and open_tickets:
                ticket = pick.choice(open_tickets)
                if step == "told":
                    body = envelope([receipt(request=ticket, **labels)], name=epoch())
                    take(store, body, received_ms=at.now_ms)
                else:
                    at.settle(ticket, pick.randrange(4000) if step == "settle" else None)
            elif step == "wait":
                at.now_ms += pick.randrange(400_000)
            elif step == "lend":
                lent = at.lend("01HOLDERA", at_least=pick.randrange(5000), turn=number % 2)
                granted = lent.granted
            elif step == "back":
                at.lend("01HOLDERA", exactly=pick.randrange(granted + 1), turn=number % 2)
            elif step == "change":
                at.put(name="teams", limit_usd="0.000006", per=["team"], period=pick.choice(["day", "month"]))
            elif step == "anew":
                at.desk.rebuild(at.project, [], "test")
            check(at)
    finally:
        store.close()


def check(at: At) -> None:
    before = at.everything()
    held = at.store.look(
        lambda connection: connection.execute(
            "SELECT COALESCE((SELECT sum(bound_nanousd) FROM tickets WHERE state = 'open'), 0) + "
            "COALESCE((SELECT sum(held) FROM leases JOIN budgets ON budgets.id = budget_id WHERE name = 'default'), 0)"
        ).fetchone()[0]
    )
    assert at.balance().reserved == held
    at.desk.rebuild(at.project, [], "test")
    day = datetime.fromtimestamp(at.now_ms / 1000, timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
    now = {row for row in at.everything() if row[2] == 0 or row[2] >= day.timestamp() * 1000}
    assert now <= set(before)
    assert all(row in now for row in before if row[2] == 0 or row[2] >= day.timestamp() * 1000)


def test_who_changed_a_budget_and_what_stood_there_is_in_the_audit_log(at: At) -> None:
    at.put(name="default", limit_usd=1)
    at.put(name="default", limit_usd=1)  # nothing changed
    at.put(name="default", limit_usd=2)
    at.desk.set_policy(at.project, {"on_unpriced": "refuse"}, "ada")
    at.desk.remove(at.project, "default", "ada")
    store = at.store
    told = store.look(lambda connection: audit.lines(connection, project_id=at.project))
    # An organisation's lines have those of its projects.
    assert told == store.look(lambda connection: audit.lines(connection, organisation_id=told[0].organisation_id))
    limits = (
        [(line.before or {}).get("limit_usd") for line in told],
        [(line.after or {}).get("limit_usd") for line in told],
    )
    assert [(line.who, line.what, line.target) for line in reversed(told)] == [
        ("test", "budget.created", "default"),
        ("test", "budget.changed", "default"),
        ("ada", "policy.changed", "policy"),
        ("ada", "budget.removed", "default"),
    ]
    assert [str(limit) for limit in limits[0][::-1]] == ["None", "1", "None", "2"]
    assert [str(limit) for limit in limits[1][::-1]] == ["1", "2", "None", "None"]
