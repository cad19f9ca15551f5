"""What is drawn of an answer: each figure once, none invented, and what is left out is said."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest

pytest.importorskip("jinja2")

from aicostguard.ledger.model import OTHER
from aicostguard.ledger.web.charts import bars, burn, models, spend, theme
from aicostguard.ledger.web.charts.chart import Chart, decades, go, label
from tests.web.rows import DAY, answer, row, sums


def values(chart: Chart) -> list[dict[str, Any]]:
    assert chart.spec is not None
    found: list[dict[str, Any]] = chart.spec["data"]["values"]
    return found


@pytest.mark.ids("E19")
def test_spend_is_stacked_by_day_and_each_row_is_a_mark_with_its_exact_money() -> None:
    rows = [
        row({"day": "2026-11-01", "model": "gpt-4o"}, 1.234567891, calls=3),
        row({"day": "2026-11-01", "model": "haiku"}, 0.5),
        row({"day": "2026-11-02", "model": "gpt-4o"}, 2, calls=2, estimated_calls=1),
    ]
    chart = spend.spend(answer(["day", "model"], rows))
    found = values(chart)
    assert [(one["when"], one["s"], one["cost"]) for one in found] == [
        ("Sun 1 Nov 2026", "gpt-4o", "$1.234567891"),
        ("Sun 1 Nov 2026", "haiku", "$0.5"),
        ("Mon 2 Nov 2026", "gpt-4o", "$2 ≈"),
    ]
    assert [one["c"] for one in found] == [1.234567891, 0.5, 2.0]
    assert [one["e"] - one["t"] for one in found] == [86_400_000] * 3
    assert "$3.73" in chart.description and "most of it gpt-4o ($3.23)" in chart.description
    assert chart.notes == ()


def test_only_so_many_series_are_told_apart_and_the_rest_adds_up() -> None:
    rows = [
        row({"day": f"2026-11-{day:02}", "model": f"m{n:03}"}, (n + 1) / 1000) for day in (1, 2, 3) for n in range(300)
    ]
    chart = spend.spend(answer(["day", "model"], rows), most=9)
    found = values(chart)
    assert len(found) == 3 * 10
    assert sorted({one["s"] for one in found if one["s"] != "other (291)"}) == [f"m{n:03}" for n in range(291, 300)]
    rest = [one for one in found if one["s"] == "other (291)"]
    assert [one["cost"] for one in rest] == ["$42.486"] * 3, "the sum of 1 to 291 thousandths, exactly"
    assert all("go" not in one for one in rest), "what is many leads to no filter"
    assert "The 291 with less are drawn together as other." in chart.notes
    many = spend.spend(answer(["hour"], [row({"hour": f"2026-11-01T{h:02}:00:00+00:00"}, 1) for h in range(24)], DAY))
    assert len(values(many)) == 24


def test_what_has_no_price_has_no_height_and_is_counted() -> None:
    rows = [row({"day": "2026-11-01", "model": "new"}, 0, calls=4, unpriced_calls=4)]
    chart = spend.spend(answer(["day", "model"], rows))
    assert [(one["cost"], one["calls"]) for one in values(chart)] == [("no price is known", "4, 4 without a price")]
    assert chart.notes == ("4 of 4 calls have no price and no height here.",)


def test_what_a_limit_cut_off_is_said() -> None:
    cut = answer(["day", "user"], [row({"day": "2026-11-01", "user": "u1"}, 5)], rest=sums(7, calls=12), groups=12)
    assert "12 more groups with $7.00 are not drawn." in spend.spend(cut).notes


def test_an_hour_stands_where_the_clock_of_its_zone_showed_it() -> None:
    rows = [row({"hour": "2026-11-01T01:00:00+05:30"}, 1)]
    found = values(spend.spend(answer(["hour"], rows, ("2026-11-01T00:00:00+05:30", "2026-11-02T00:00:00+05:30"))))
    assert found[0]["t"] % 86_400_000 == 3_600_000
    assert found[0]["when"] == "Sun 1 Nov 2026, 01:00 (+0530)"


@pytest.mark.parametrize(
    ("at", "unit", "days"), [("2026-02", "month", 28), ("2026-12", "month", 31), ("2026-11-02", "week", 7)]
)
def test_a_stretch_is_as_long_as_its_unit(at: str, unit: str, days: int) -> None:
    start, end = spend.stretch(at, unit)
    assert end - start == days * 86_400_000


def test_a_line_is_drawn_at_its_amount_and_lifts_the_axis() -> None:
    chart = spend.spend(answer(["day"], [row({"day": "2026-11-01"}, 3)]), lines=[spend.Line("threshold $10", 10**10)])
    assert chart.spec is not None
    drawn = json.dumps(chart.spec["layer"][1])
    assert '"y": 10.0' in drawn and '"threshold $10"' in drawn


def test_a_mark_leads_to_its_filter_even_of_a_strange_name() -> None:
    names = {"model": "a&b=c#d é", "team": None}
    (bar,) = values(bars.breakdown(answer(["model", "team"], [row(names, 1)])))
    assert parse_qsl(bar["go"], keep_blank_values=True) == [("model", "a&b=c#d é"), ("team", "")]


def test_what_is_no_value_is_no_filter() -> None:
    assert go({"model": OTHER, "team": "a"}, ["team", "model"]) == ""
    assert go({"model": "(x)", "team": None}, ["team", "model"]) == "team=&model=%28x%29"


def test_names_of_the_data_are_told_from_ours_and_cannot_end_a_script() -> None:
    assert label({"model": None}, ["model"]) == "(none)"
    assert label({"model": "(none)"}, ["model"]) == "“(none)”"
    assert label({"model": "other (3)"}, ["model"]) == "“other (3)”"
    assert label({"model": "a\nb\x00"}, ["model"]) == "a�b�"
    text = bars.breakdown(answer(["model"], [row({"model": "</script><b>&"}, 1)])).json()
    assert "<" not in text and ">" not in text and "&" not in text
    assert json.loads(text)["data"]["values"][0]["n"] == "</script><b>&"


def test_bars_and_other_add_up_to_the_whole() -> None:
    rows = [row({"team": f"t{n:02}"}, 100 - n) for n in range(40)]
    chart = bars.breakdown(answer(["team"], rows, rest=sums(11.5, calls=9), groups=9), most=12)
    found = values(chart)
    assert len(found) == 13 and found[-1]["n"] == "other (37)"
    assert sum(float(one["cost"][1:]) for one in found) == sum(100 - n for n in range(40)) + 11.5
    assert found[-1]["c"] == 300 and "The bar of other is cut: it would be longer." in chart.notes
    assert "go" not in found[-1]


def test_what_moved_grows_to_the_right_and_says_from_what() -> None:
    rows = [
        row({"feature": "up"}, 30, before=10),
        row({"feature": "down"}, 5, before=8),
        row({"feature": "new"}, 2, before=0),
        row({"feature": "same"}, 2, before=2),
    ]
    chart = bars.moved(answer(["feature"], rows))
    found = values(chart)
    assert [(one["n"], one["shown"]) for one in found] == [
        ("up", "+$20.00 (+200%)"),
        ("new", "+$2.00 (new)"),
        ("down", "-$3.00 (-38%)"),
    ]
    assert (found[0]["now"], found[0]["before"], found[0]["change"]) == ("$30", "$10", "+$20")
    nothing = bars.moved(answer(["feature"], rows[3:]))
    assert nothing.spec is None and nothing.notes == ("Nothing has changed since the period before.",)


def test_token_classes_are_parts_that_add_up() -> None:
    its = row(
        {"model": "m"},
        1,
        input_tokens=1000,
        cache_read_input_tokens=600,
        cache_creation_input_tokens=100,
        output_tokens=500,
        reasoning_output_tokens=200,
    )
    found = values(bars.tokens(answer(["model"], [its])))
    assert {one["s"]: one["c"] for one in found} == {
        "input": 300,
        "written to a cache": 100,
        "read from a cache": 600,
        "output": 300,
        "reasoning": 200,
    }


def timed(model: str, times: tuple[float, float, float] | None, calls: int = 10) -> dict[str, Any]:
    known = dict(zip(("p50", "p95", "p99"), times or (None,) * 3))
    told = {f"{of}_{name}_ms": ms for of in ("latency", "ttft") for name, ms in known.items()}
    return {**row({"model": model}, 1, calls=calls, timed_calls=calls), **told, "approximate": True}


@pytest.mark.ids("E19")
def test_percentiles_stand_beside_each_other_and_who_tells_none_is_counted() -> None:
    rows = [timed("quick", (100, 200, 300)), timed("slow", (1000, 2000, 90_000), 5), timed("silent", None)]
    chart = models.latency(answer(["model"], rows))
    found = values(chart)
    assert [(one["n"], one["p"], one["ms"]) for one in found][:3] == [
        ("quick", "p50", 100),
        ("quick", "p95", 200),
        ("quick", "p99", 300),
    ]
    assert found[5]["time"] == "≈ 90,000.0 ms (1 min 30 s)"
    assert "1 tells no such time." in chart.notes and "Lengths are drawn by their logarithm." in chart.notes


def scored(model: str, per_call: str | None, score: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "model": model,
        "calls": 3,
        "cost_per_call_usd": per_call,
        "cost_per_token_usd": None,
        "quality": {} if score is None else {"accuracy": score},
    }


@pytest.mark.ids("A29")
def test_quality_stands_against_cost_with_its_interval_and_nothing_is_drawn_at_zero() -> None:
    sure = {"mean": 0.9, "low": 0.85, "high": 0.95, "scores": 40}
    single = {"mean": 0.7, "low": None, "high": None, "scores": 1}
    told = [scored("a", "0.01", sure), scored("b", "0.002", single), scored("c", None, sure), scored("d", "0.1", None)]
    chart = models.quality({"models": told})
    found = values(chart)
    assert [(one["n"], one["c"], one["q"]) for one in found] == [("a", 0.01, 0.9), ("b", 0.002, 0.7)]
    assert found[0]["range"] == "0.85 to 0.95" and "low" not in found[1]
    assert chart.notes == ("Without a score or a price, and so not drawn: c, d.",)
    assert models.quality({"models": told[3:]}).spec is None


def test_a_budget_burns_up_to_now_and_is_led_on_at_the_present_rate() -> None:
    rows = [row({"day": "2026-11-01"}, 10), row({"day": "2026-11-02"}, 15.5)]
    limit = burn.Limit(100 * 10**9, (0.5,), 10**9)
    chart = burn.burn(answer(["day"], rows), limit, now="2026-11-02T12:00:00+00:00")
    found = values(chart)
    assert [(one["spent"], one["left"]) for one in found] == [("$0", "$100"), ("$10", "$90"), ("$25.5", "$74.5")]
    assert chart.spec is not None
    (start, end) = chart.spec["layer"][2]["data"]["values"]
    assert start["t"] == found[-1]["t"] == spend.wall("2026-11-02T12:00:00")
    assert (end["t"] - start["t"]) / 3_600_000 == 74.5 and end["c"] == 100
    over = burn.burn(answer(["day"], rows), burn.Limit(20 * 10**9, (), 10**9), now="2026-11-02T12:00:00+00:00")
    assert over.spec is not None and over.spec["layer"][2]["data"]["values"] == []


def test_a_budget_of_tokens_burns_in_tokens() -> None:
    rows = [
        {**row({"day": f"2026-11-0{day}"}, 0), "input_tokens": 9_000 * day, "output_tokens": 1_000} for day in (1, 2)
    ]
    limit = burn.Limit(100_000, (0.5,), 2_900, burn.UNITS["tokens"])
    chart = burn.burn(answer(["day"], rows), limit, now="2026-11-02T12:00:00+00:00")
    assert [(one["spent"], one["c"]) for one in values(chart)[1:]] == [
        ("10,000 tokens", 10_000),
        ("29,000 tokens", 29_000),
    ]
    assert chart.description == "29k tokens of 100k tokens spent; at 2,900 tokens an hour the line leads on."
    calls = burn.burn(
        answer(["day"], [{**rows[0], "calls": 3}]),
        limit._replace(unit=burn.UNITS["requests"]),
        now="2026-11-02T12:00:00+00:00",
    )
    assert values(calls)[-1]["left"] == "99,997 requests"


def test_a_spark_breaks_where_nothing_is_known() -> None:
    drawn = str(burn.spark([10**9, None, 2 * 10**9, 3 * 10**9]))
    assert drawn.count("M") == 2 and drawn.count("L") == 1
    assert "from $1.00 to $3.00" in drawn
    assert str(burn.spark([5])) == "" and "&lt;b" in str(burn.spark([1, 2], says="<b>"))


@pytest.mark.parametrize("make", [spend.spend, bars.breakdown, bars.moved, bars.tokens, models.latency])
def test_of_nothing_nothing_is_drawn_and_that_is_said(make: Any) -> None:
    chart = make(answer(["day", "model"], []))
    assert chart.spec is None and chart.notes and "nothing" in f"{chart.notes[0]} {chart.description}".lower()


def test_colours_differ_within_a_chart_and_stay_from_one_to_the_next() -> None:
    names = [f"model-{n}" for n in range(len(theme.PALETTE))]
    assert len(set(theme.colours(names))) == len(names)
    assert len(theme.colours([*names, "one more"])) == len(names) + 1
    assert theme.colours(["gpt-4o"]) == theme.colours(["gpt-4o", *names])[:1]


@pytest.mark.parametrize("look", theme.THEMES)
def test_series_can_be_seen_on_either_ground(look: str) -> None:
    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    below = light(theme.config(look)["background"])
    for colour in (*theme.PALETTE, theme.OTHER, theme.UP, theme.DOWN, theme.LIMIT):
        high, low = sorted((light(colour), below), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 2.4, colour
    text = theme.config(look)["axis"]["labelColor"]
    high, low = sorted((light(text), below), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 4.5


def test_ticks_of_a_logarithm_are_few() -> None:
    assert decades(100, 900) == [100, 200, 500, 1000]
    assert len(decades(0.0001, 10_000)) <= 12
