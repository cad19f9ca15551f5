"""Where counts stand is learnt once for a shape; read that way or member by member, they are the same."""

from __future__ import annotations

from typing import Any, Dict, List

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aicostguard.metering.counts import MOST_MEMBERS, MOST_SHAPES, Counts

TOP = {"prompt": "input", "input": "input", "completion": "output", "total": "total"}
INSIDE = {"details": {"cached": "cache", "prompt": "input"}, "more": {"reasoning": "reasoning", "details": "cache"}}

NUMBERS = st.integers(0, 9)
ANYTHING = NUMBERS | st.none() | st.booleans() | st.integers(-3, -1) | st.floats() | st.text(max_size=2)
OBJECTS = st.dictionaries(st.sampled_from(["cached", "prompt", "reasoning", "details", "x"]), ANYTHING, max_size=3)
MEMBERS = st.fixed_dictionaries(
    {"prompt": NUMBERS | ANYTHING, "completion": NUMBERS},
    optional={"total": NUMBERS, "input": ANYTHING, "details": OBJECTS | ANYTHING, "more": OBJECTS, "x": ANYTHING},
)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(MEMBERS, min_size=2, max_size=12))
def test_a_known_shape_is_read_as_any_other(usages: List[Dict[str, Any]]) -> None:
    counts = Counts(TOP, INSIDE)
    for usage in usages + usages:
        assert list(counts.of(usage).items()) == list(counts._look(usage).items())


def test_a_known_shape_is_not_looked_at_member_by_member(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = Counts(TOP, INSIDE)
    counts.of({"prompt": 1, "details": {"cached": 0}, "total": 1})
    monkeypatch.setattr(counts, "_take", None)
    assert counts.of({"prompt": 7, "details": {"cached": 5}, "total": 9}) == {"input": 7, "cache": 5, "total": 9}


@pytest.mark.parametrize(
    "details",
    [{"x": 1, "cached": 2}, {"cached": 2, "x": 1}, {"cached": None}, {"cached": 2.5}, {"cached": -1}, {}, None],
)
def test_an_object_inside_may_change(details: Any) -> None:
    counts = Counts(TOP, INSIDE)
    counts.of({"prompt": 1, "completion": 1, "details": {"cached": 1}})
    changed = {"prompt": 3, "completion": 4, "details": details}
    assert counts.of(changed) == counts._look(changed)


def test_what_is_remembered_is_bounded() -> None:
    counts = Counts(TOP, INSIDE)
    wide = {str(n): n for n in range(MOST_MEMBERS + 1)}
    for n in range(MOST_SHAPES + 9):
        assert counts.of({"prompt": n, "key %d" % n: 1, "total": 2}) == {"input": n, "total": 2}
    assert counts.of({"prompt": 3, **wide}) == {"input": 3}
    assert len(counts._shapes) == MOST_SHAPES
