"""Refusals are values: they cross processes as themselves."""

from __future__ import annotations

import copy
import pickle

import pytest

from aicostguard.guard.errors import BudgetExceeded, BudgetExhausted, LoopDetected

EXCEEDED = BudgetExceeded(
    "no room",
    budget="marketing",
    dimension="daily",
    scope={"team": "marketing"},
    limit=10,
    spent=7,
    reserved=2,
    estimate=4,
    resets_at=1_800_000_000_000,
)
LOOP = LoopDetected("loop", agent="planner", action="search", model="gpt-4o", count=5, window=60.0)


@pytest.mark.parametrize("error", [EXCEEDED, LOOP])
@pytest.mark.parametrize("way", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
def test_a_refusal_survives_being_copied(error, way):
    other = way(error)
    assert type(other) is type(error) and isinstance(other, BudgetExhausted)
    assert str(other) == str(error)
    assert {name: getattr(other, name) for name in other.FIELDS} == {
        name: getattr(error, name) for name in error.FIELDS
    }
