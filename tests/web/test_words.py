"""Figures as people read them, and addresses as pages write them."""

from __future__ import annotations

import pytest

pytest.importorskip("jinja2")

from aicostguard.ledger.errors import Refused
from aicostguard.ledger.web import frame, stacked, words
from aicostguard.ledger.web.state import Filter, State


@pytest.mark.parametrize(
    "nano, shown",
    [
        (None, "–"),
        (0, "$0.00"),
        (12_345_670_000_000, "$12,345.67"),
        (1_234_567_890_000_000, "$1,234,567.89"),
        (420_000_000, "$0.42"),
        (99_600_000, "$0.10"),
        (12_300_000, "$0.012"),
        (120_400, "$0.00012"),
        (1, "$0.000000001"),
        (-3_500_000_000, "-$3.50"),
    ],
)
def test_money_reads_as_people_write_it(nano: int | None, shown: str) -> None:
    assert words.money(nano) == shown


def test_the_exact_amount_stands_behind_the_rounded_one() -> None:
    assert words.as_money(123_456) == '<span title="$0.000123456">$0.00012</span>'
    assert "no price is known" in words.as_money(None)
    assert words.nano("0.000123456") == 123_456


@pytest.mark.parametrize(
    "part, shown",
    [
        (None, "–"),
        (0.0, "0%"),
        (0.0004, "<0.1%"),
        (0.1234, "12.3%"),
        (0.9996, ">99.9%"),
        (1.0, "100%"),
        (5.349, "535%"),
    ],
)
def test_a_share_that_is_not_quite_nothing_or_all_says_so(part: float | None, shown: str) -> None:
    assert words.share(part) == shown


@pytest.mark.parametrize(
    "receipt, said",
    [
        ({"images": 1}, "1 image"),
        ({"images": 4, "web_searches": 2}, "4 images, 2 searches"),
        ({"audio_ms": 61_001}, "61.001 s audio"),
        ({"video_ms": 8_000}, "8 s video"),
        ({"characters": 1_001}, "1,001 characters"),
        ({"search_units": 1}, "1 search unit"),
        ({"web_searches": 1, "images": 0}, "1 search"),
        ({}, ""),
    ],
)
def test_what_is_no_token_is_said_in_its_unit(receipt: dict[str, int], said: str) -> None:
    assert words.units(receipt) == said


@pytest.mark.parametrize(
    "value, shown", [(9_999, "9,999"), (12_345, "12.3k"), (6_790_000, "6.79M"), (123_456_789, "123M")]
)
def test_large_counts_are_short(value: int, shown: str) -> None:
    assert words.short(value) == shown


def test_names_are_escaped_and_silence_is_told_apart() -> None:
    assert words.as_name("<b>") == '<span class="name" title="&lt;b&gt;">&lt;b&gt;</span>'
    assert "not said" in words.as_name(None)


def test_an_address_is_read_and_written_alike() -> None:
    pairs = [
        ("since", "7d"),
        ("model", "gpt-4o"),
        ("model", "o3"),
        ("team!", "search"),
        ("user", ""),
        ("cursor", "1.2.a"),
    ]
    state = State.of([*pairs, ("group_by", "day"), ("group_by", "model")], ("cursor",))
    assert state.group_by == ("day", "model")
    assert state.dimensions == ("model",)
    assert set(state.pairs()) == {*pairs, ("group_by", "day,model")}
    assert state.filters == [
        Filter("model", "gpt-4o", False),
        Filter("model", "o3", False),
        Filter("team", "search", True),
        Filter("user", "", False),
    ]
    assert "cursor" not in state.asked()
    assert state.unfiltered(Filter("model", "o3", False)).given["model"] == ("gpt-4o",)
    assert state.unfiltered(Filter("team", "search", True)).given.get("team!") is None
    assert [name for name, _ in state.cleared().pairs()] == ["since", "group_by", "cursor"]


def test_a_parameter_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(Refused) as refused:
        State.of([("modle", "gpt-4o")])
    assert refused.value.field == "modle" and refused.value.status == 422


@pytest.mark.parametrize(
    "text, name, value", [("model=a=b", "model", "a=b"), ("team!=x", "team!", "x"), ("user=", "user", "")]
)
def test_a_filter_is_written_as_people_say_it(text: str, name: str, value: str) -> None:
    assert frame.filtered(State(), text).given == {name: (value,)}


@pytest.mark.parametrize("text", ["gpt-4o", "modle=x", "since=7d", "=x"])
def test_what_is_no_filter_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        frame.filtered(State(), text)


def test_bars_hold_all_of_a_day_and_nothing_twice() -> None:
    whole = [
        {"day": "2026-03-01", "cost_nanousd": 1000, "calls": 4},
        {"day": "2026-03-02", "cost_nanousd": None, "calls": 1},
        {"day": "2026-03-03", "cost_nanousd": 300, "calls": 2},
    ]
    parts = [
        {"day": "2026-03-01", "model": "a", "cost_nanousd": 600},
        {"day": "2026-03-01", "model": "b", "cost_nanousd": 150},
        {"day": "2026-03-03", "model": "a", "cost_nanousd": 300},
    ]
    drawn = stacked.stack("day", "model", ["a", "b"], whole, parts, limit=2000)
    assert [[(block.series, block.nano) for block in column.blocks] for column in drawn.columns] == [
        [(1, 600), (2, 150), (0, 250)],
        [],
        [(1, 300)],
    ]
    assert drawn.top == 2000 and drawn.line == 0.0
    first = drawn.columns[0].blocks
    assert sum(block.height for block in first) == pytest.approx(stacked.HEIGHT / 2)
    assert min(block.y for block in first) == pytest.approx(stacked.HEIGHT / 2)
    assert stacked.stack("day", "model", ["a"], whole, parts, limit=10**9).line is None, (
        "a limit far above squeezes nothing"
    )


@pytest.mark.parametrize(
    "amount, top", [(0, 0), (1, 1), (7, 10), (1000, 1000), (1001, 2000), (2400, 2500), (6_000, 10_000)]
)
def test_the_upper_edge_reads_well(amount: int, top: int) -> None:
    assert stacked.nice(amount) == top


@pytest.mark.parametrize(
    "since, until, shown",
    [
        ("2026-11-01T00:00:00+00:00", "2026-12-01T00:00:00+00:00", "2026-11-01 to 2026-11-30"),
        ("2026-11-30T00:00:00+01:00", "2026-12-01T00:00:00+01:00", "2026-11-30"),
        ("2026-03-29T00:00:00+01:00", "2026-03-31T00:00:00+02:00", "2026-03-29 to 2026-03-30"),
        ("2026-11-29T10:00:00+00:00", "2026-12-01T00:00:00+00:00", "2026-11-29 10:00 to 2026-12-01 00:00"),
        ("2026-11-29T00:00:00+00:00", "2026-11-29T00:00:00+00:00", "2026-11-29 00:00 to 2026-11-29 00:00"),
    ],
)
def test_a_period_does_not_name_a_day_that_is_not_in_it(since: str, until: str, shown: str) -> None:
    assert words.days(since, until) == shown
