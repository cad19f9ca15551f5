"""Claude Code's results: sums that grow from turn to turn, read turn by turn."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import pytest

from aicostguard.metering.claude_code import Results, Sums
from aicostguard.usage import Reading, Usage
from tests.claude import assistant, result, sums


def read(results: Results, *messages: Dict[str, Any]) -> List[Reading]:
    return [reading for message in messages for reading in results.seen(message)]


def counts(readings: List[Reading]) -> List[Any]:
    return [(r.model, r.usage and (r.usage.input_tokens, r.usage.output_tokens)) for r in readings]


@pytest.mark.ids("B6")
def test_a_turn_of_one_model() -> None:
    row = sums(
        3, 550, 100, 12_304, 0.0541, thinkingTokens=200, webSearchRequests=2, cacheCreationEphemeral1hInputTokens=4
    )
    readings = read(Results({}), assistant(), result(claude_opus_4_8=row))
    assert readings == [
        Reading(
            "claude-opus-4-8",
            Usage(
                input_tokens=12_407,
                output_tokens=550,
                cache_read_input_tokens=100,
                cache_creation_input_tokens=12_304,
                cache_creation_1h_input_tokens=4,
                reasoning_output_tokens=200,
                web_searches=2,
                reported_cost_nanousd=54_100_000,
            ),
            "anthropic",
        )
    ]


@pytest.mark.ids("B3", "B17")
def test_later_results_bill_what_was_added() -> None:
    results = Results({})
    first = read(results, assistant(), result(a=sums(10, 20, cost=0.01)))
    second = read(results, assistant(), result(a=sums(15, 50, cost=0.015), b=sums(1, 2, cost=0.5)))
    third = read(results, result(a=sums(15, 50, cost=0.015), b=sums(1, 2, cost=0.5)))
    assert counts(first + second) == [("a", (10, 20)), ("a", (5, 30)), ("b", (1, 2))]
    assert second[0].usage is not None and second[0].usage.reported_cost_nanousd == 5_000_000
    assert third == []
    assert results.left() == []


@pytest.mark.ids("B3")
@pytest.mark.parametrize("named", ["s", None])
def test_a_session_that_is_resumed_here(named: Optional[str]) -> None:
    sessions: Dict[str, Sums] = {}
    read(Results(sessions), result("s", a=sums(10, 20)))
    again = read(Results(sessions, True, named), result("s", a=sums(15, 50)))
    assert counts(again) == [("a", (5, 30))]


@pytest.mark.ids("B3")
def test_a_session_that_was_begun_elsewhere() -> None:
    """What went before has been billed by somebody else; the turn's own usage says what this one cost."""
    turn = {"input_tokens": 5, "output_tokens": 30, "cache_read_input_tokens": 2}
    results = Results({}, True, "s")
    (reading,) = read(results, assistant("a"), result("s", a=sums(15, 50), turn=turn))
    assert (reading.model, reading.mismatch) == ("a", False)
    assert reading.usage == Usage(7, 30, cache_read_input_tokens=2)
    assert counts(read(results, result("s", a=sums(16, 52)))) == [("a", (1, 2))]
    two = read(Results({}, True), assistant("a"), result("t", a=sums(15, 50), b=sums(1, 1), turn=turn))
    assert [reading.mismatch for reading in two] == [True]


@pytest.mark.ids("B6")
def test_sums_that_begin_anew() -> None:
    results = Results({})
    read(results, result(a=sums(100, 200)))
    assert counts(read(results, result(a=sums(5, 6)))) == [("a", (5, 6))]


@pytest.mark.ids("C5")
def test_names_and_who_serves_them() -> None:
    rows = {
        "us.anthropic.claude-x": sums(1, 2, provider="bedrock"),
        "claude-x[1m]": sums(3, 4),
        "y": sums(5, 6, provider="?"),
    }
    found = read(Results({}), {"type": "result", "modelUsage": rows})
    assert [(r.model, r.provider) for r in found] == [
        ("us.anthropic.claude-x", "bedrock"),
        ("claude-x", "anthropic"),
        ("y", "anthropic"),
    ]


@pytest.mark.ids("B10")
def test_a_process_that_ends_in_a_turn() -> None:
    results = Results({})
    assert results.left() == []
    read(results, assistant("m"))
    assert results.left() == [Reading("m", None, "anthropic", partial=True)]
    assert results.left() == []


@pytest.mark.ids("A21")
@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"type": 5},
        {"type": "assistant"},
        {"type": "assistant", "message": 5},
        {"type": "result"},
        {"type": "result", "usage": 5, "modelUsage": 5},
        {"type": "result", "modelUsage": {"a": 5}},
        {"type": "result", "modelUsage": {"a": {"inputTokens": "x", "outputTokens": -5, "costUSD": "y"}}},
        {"type": "result", "usage": {"input_tokens": None}, "session_id": 5},
    ],
)
def test_odd_messages_are_tolerated(odd: Any) -> None:
    results = Results({})
    assert all(reading.usage is not None for reading in results.seen(odd))
    results.left()


@pytest.mark.ids("B12")
def test_before_there_were_sums() -> None:
    turn = {"input_tokens": 5, "output_tokens": 30}
    assert counts(read(Results({}), assistant("m"), result(turn=turn))) == [("m", (5, 30))]
