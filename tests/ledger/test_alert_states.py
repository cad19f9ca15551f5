"""When something fires, when it is over, who is told how often: also when processes are killed in between."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicostguard.ledger.alerts import book, incident, outbox
from aicostguard.ledger.alerts import rule as rules
from aicostguard.ledger.alerts.incident import Incident, Reading
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.alerting import DAY, HOUR, MINUTE, NOON, Town


@pytest.fixture
def town(store: SqliteStore) -> Town:
    made = Town(store)
    made.only()
    made.office.add_channel({"name": "ops", "url": "http://127.0.0.1:9/x"})
    return made


def level(town: Town, **more: Any) -> None:
    """A rule over the last hours, whose value falls as well as it rises."""
    stated = {"name": "level", "kind": "rate_spike", "threshold": 2, "min_usd": 10, **more}
    town.office.add_rule(stated)


def notices(town: Town) -> list[tuple[str, str]]:
    """`(event, texts)` of all that was written down to be told, in order."""
    rows = town.store.look(
        lambda connection: connection.execute("SELECT event, message FROM alert_notices ORDER BY id").fetchall()
    )
    return [(event, "; ".join(outbox.lines(json.loads(message), event))) for event, message in rows]


def states(town: Town) -> list[str]:
    return [row["state"] for row in town.every()]


def test_it_is_over_only_after_it_was_below_the_lower_line_for_some_time(town: Town) -> None:
    level(town, window_minutes=5, clear=0.5, hold_s=300, notify=["firing", "resolved"])
    town.spend(20)
    town.look()
    assert states(town) == ["firing"]
    town.pass_time(6 * MINUTE)  # nothing in the window any more: below, but not for long enough
    assert states(town) == ["firing"]
    town.spend(7)  # between the lines
    town.pass_time(MINUTE)
    town.pass_time(4 * MINUTE)
    assert states(town) == ["firing"], "the break began anew"
    town.pass_time(8 * MINUTE)
    assert states(town) == ["resolved"]
    assert [event for event, _ in notices(town)] == ["firing", "resolved"]


def test_what_goes_up_and_down_is_told_once_in_a_period(town: Town) -> None:
    level(town, window_minutes=1, hold_s=0, once_per="hour")
    for _ in range(5):
        town.spend(20)
        town.pass_time(MINUTE, 10_000)
        town.pass_time(3 * MINUTE)
    assert states(town) == ["resolved"]
    assert len(notices(town)) == 1
    town.now_ms += HOUR
    town.spend(20)
    town.look()
    assert (states(town), len(notices(town))) == (["resolved", "firing"], 2)


def test_a_new_period_of_spend_is_told_anew(town: Town) -> None:
    town.office.add_rule({"name": "hourly", "kind": "spend", "threshold": 10, "period": "hour"})
    for _ in range(3):
        town.spend(11)
        town.pass_time(HOUR)
    town.pass_time(10 * MINUTE)
    assert len(town.every()) == len(notices(town)) == 3
    assert states(town) == ["resolved"] * 3


@pytest.mark.parametrize("act", ["ack", "snooze"])
def test_who_looks_after_it_is_kept_and_it_is_told_no_more(town: Town, act: str) -> None:
    town.office.add_rule({"name": "daily", "kind": "spend", "threshold": 10, "notify": ["firing", "resolved"]})
    town.spend(11)
    (found,) = town.look()
    told = town.office.ack(found["id"]) if act == "ack" else town.office.snooze(found["id"], {"minutes": 90})
    assert (told["state"], told["by"]) == ("acknowledged" if act == "ack" else "snoozed", "test")
    town.spend(50)
    town.pass_time(HOUR)
    assert states(town) == [told["state"]]
    assert len(notices(town)) == 1
    with pytest.raises(Refused, match="there is no alert 999"):
        town.office.ack(999)


def test_what_still_fires_after_a_snooze_is_told_again(town: Town) -> None:
    town.office.add_rule({"name": "daily", "kind": "spend", "threshold": 10})
    town.spend(11)
    (found,) = town.look()
    town.office.snooze(found["id"], {"until": "2026-11-25T13:00"})
    town.pass_time(59 * MINUTE)
    assert (states(town), len(notices(town))) == (["snoozed"], 1)
    town.pass_time(3 * MINUTE)
    assert (states(town), len(notices(town))) == (["firing"], 2)


def test_a_snooze_holds_into_the_next_period(town: Town) -> None:
    town.office.add_rule({"name": "hourly", "kind": "spend", "threshold": 10, "period": "hour"})
    town.spend(11)
    (found,) = town.look()
    town.office.snooze(found["id"], {"minutes": 90})
    town.now_ms += HOUR
    town.spend(12)
    town.look()
    assert (states(town), len(notices(town))) == (["resolved", "snoozed"], 1)
    town.now_ms += 40 * MINUTE
    town.look()
    assert (states(town), len(notices(town))) == (["resolved", "firing"], 2)


@pytest.mark.parametrize(
    "given_, field",
    [
        ({}, "minutes"),
        ({"minutes": 0}, "minutes"),
        ({"minutes": 5, "until": "tomorrow"}, "minutes"),
        ({"until": "yesterday"}, "until"),
        ({"until": "soon"}, "until"),
        ({"hours": 1}, "hours"),
    ],
)
def test_a_snooze_that_means_nothing_is_refused(town: Town, given_: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        town.office.snooze(1, given_)
    assert (refused.value.status, refused.value.field) == (422, field)


def test_what_is_over_cannot_be_answered(town: Town) -> None:
    town.office.add_rule({"name": "daily", "kind": "spend", "threshold": 10})
    town.spend(11)
    (found,) = town.look()
    town.office.remove_rule("daily")
    assert states(town) == ["resolved"], "its rule is gone"
    with pytest.raises(Refused, match="is resolved") as refused:
        town.office.ack(found["id"])
    assert refused.value.status == 422


def test_a_rule_that_is_switched_off_fires_no_more(town: Town) -> None:
    town.office.add_rule({"name": "daily", "kind": "spend", "threshold": 10})
    town.office.change_rule("daily", {"enabled": False})
    town.spend(11)
    assert town.look() == []
    town.now_ms += 1
    town.office.change_rule("daily", {"enabled": True})
    assert len(town.look()) == 1
    town.office.change_rule("daily", {"threshold": 12})
    town.pass_time(10 * MINUTE)
    assert states(town) == ["firing"], "11 is not below nine tenths of 12"
    town.office.change_rule("daily", {"threshold": 50})
    town.pass_time(10 * MINUTE)
    assert states(town) == ["resolved"]


def test_state_and_notices_survive_any_kill_together(town: Town, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any statement: afterwards both are there, or neither; and the next process tells of it once."""
    town.office.add_rule({"name": "daily", "kind": "spend", "threshold": 10})
    town.spend(11)
    put = outbox.put

    def killed(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(outbox, "put", killed)
    with pytest.raises(KeyboardInterrupt):
        town.look()
    monkeypatch.setattr(outbox, "put", put)
    assert town.every() == []
    for _ in range(3):
        town = town.again()
        town.look()
        assert (states(town), len(notices(town))) == (["firing"], 1)


def test_two_processes_over_one_file_tell_of_a_thing_once(town: Town) -> None:
    town.office.add_rule({"name": "daily", "kind": "spend", "threshold": 10})
    town.spend(11)
    town.now_ms += 6_000
    ours, theirs = town.again(), town.again()
    saw: list[int] = []
    steps = incident.steps

    def both(*given_: Any) -> Any:
        # While the one is between looking and writing, the other does all of it.
        if not saw:
            saw.append(1)
            theirs.watch.tick()
        return steps(*given_)

    incident.steps = both  # type: ignore[assignment]
    try:
        ours.watch.tick()
    finally:
        incident.steps = steps
    assert (states(town), len(notices(town))) == (["firing"], 1)


@given(st.data())
def test_whatever_the_values_do_each_period_is_told_at_most_once_and_nothing_is_missed(data: st.DataObject) -> None:
    """Beside a model in a few lines, over random values, pauses and holds."""
    its = rules.read(
        {
            "name": "x",
            "kind": "query",
            "query": {},
            "measure": "calls",
            "threshold": 10,
            "hold_s": data.draw(st.sampled_from([0, 120, 300])),
            "once_per": "hour",
        }
    )
    last: Incident | None = None
    told: list[int] = []
    now_ms, number = NOON, itertools.count(1)
    fires, below_since = False, 0
    for _ in range(data.draw(st.integers(1, 40))):
        now_ms += data.draw(st.sampled_from([60_000, 300_000, 1_900_000]))
        value = data.draw(st.sampled_from([0, 8, 9, 10, 11, 30]))
        reading = Reading("{}", value * rules.PART, its.threshold, "", {})
        for move in incident.steps(its, {"{}": last} if last else {}, [reading], now_ms):
            if move.what == "open":
                last = Incident(
                    next(number), "{}", "firing", incident.period(its, now_ms), now_ms, now_ms, None, 0, 0, 0
                )
            assert last is not None
            if move.what == "back":
                last = last._replace(state="firing", ended_ms=None, quiet_ms=0)
            if move.what == "quiet":
                last = last._replace(quiet_ms=now_ms)
            if move.what == "loud":
                last = last._replace(quiet_ms=0)
            if move.what == "end":
                last = last._replace(state="resolved", ended_ms=now_ms)
            if move.tell:
                told.append(incident.period(its, now_ms))
        # The model: above 10 it fires, at 9 or less for long enough it is over.
        if value > 10:
            fires, below_since = True, 0
        elif value <= 9 and fires:
            below_since = below_since or now_ms
            fires = now_ms - below_since < its.hold_s * 1000
        else:
            below_since = 0
        assert (last is not None and last.open) == fires
        if fires and value > 10:
            assert told, "whatever fires was told once"
    assert len(told) == len(set(told)), "once per period"


def test_history_is_kept_and_what_is_old_is_let_go(town: Town) -> None:
    town.office.add_rule({"name": "hourly", "kind": "spend", "threshold": 10, "period": "hour"})
    town.spend(11)
    town.look()
    town.pass_time(HOUR + 10 * MINUTE)
    assert states(town) == ["resolved"]
    town.now_ms += book.KEPT_MS + DAY
    town.watch.tick()
    assert town.every() == []


def test_a_long_list_is_read_page_by_page(town: Town) -> None:
    town.office.add_rule({"name": "teams", "kind": "spend", "threshold": 1, "per": "team"})
    for number in range(25):
        town.spend(2, team=f"t{number}")
    town.look()
    seen: list[int] = []
    cursor: str | None = ""
    while cursor is not None:
        page = town.office.alerts({"limit": "10", "cursor": cursor, "rule": "teams", "state": "open"})
        seen += [row["id"] for row in page["alerts"]]
        cursor = page["cursor"]
    assert seen == sorted(set(seen), reverse=True)
    assert len(seen) == 25
    assert len(notices(town)) == 1, "what begins together is told together"
    assert notices(town)[0][1].count("exceeds threshold") == 25
