"""Refusals are values: they cross processes as themselves. Sums are none, and wrong arguments are named."""

from __future__ import annotations

import copy
import pickle

import pytest

from aicostguard import (
    AnthropicCostExtractor,
    CostAttributionTree,
    CostCalculator,
    CostConfig,
    CostPolicyEnforcer,
    CostTracker,
    GoogleCostExtractor,
    OpenAICostExtractor,
    TokenUsage,
)
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


@pytest.mark.parametrize("way", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize("kind", [CostTracker, CostAttributionTree, lambda: CostPolicyEnforcer(CostConfig())])
def test_sums_are_not_copied_for_both_would_see_room(kind, way):
    with pytest.raises(TypeError, match="two would count apart"):
        way(kind())


@pytest.mark.parametrize("wrong", [None, "gpt-4o", {"model": "gpt-4o"}, TokenUsage])
def test_what_is_no_usage_is_refused_by_name(wrong):
    tree = CostAttributionTree()
    tree.register_agent("a")
    enforcer = CostPolicyEnforcer(CostConfig())
    for call in (CostTracker().record, enforcer.check_and_record, lambda usage: tree.record("a", usage)):
        with pytest.raises(TypeError, match="usage must be a TokenUsage") as caught:
            call(wrong)
        assert "gpt-4o" not in str(caught.value), "what was given may hold a prompt: it is in no text"


@pytest.mark.parametrize("wrong", ["x", {}, CostTracker])
def test_what_is_no_configuration_and_no_tracker_is_refused_by_name(wrong):
    with pytest.raises(TypeError, match=r"config must be a CostConfig.*, not (str|dict|type)$"):
        CostPolicyEnforcer(wrong)
    for kind in (OpenAICostExtractor, AnthropicCostExtractor, GoogleCostExtractor):
        with pytest.raises(TypeError, match="tracker must be a CostTracker"):
            kind(wrong)
    with pytest.raises(TypeError, match="registry must be a PricingRegistry"):
        CostCalculator(wrong)


def test_sums_say_what_they_are():
    tracker, tree = CostTracker(max_budget=10), CostAttributionTree(session_id="run-42")
    tracker.track("gpt-4o", 1500, 500)
    assert repr(tracker) == "CostTracker(max_budget=10, spent=0.00875, calls=1)"
    assert repr(tree) == "CostAttributionTree(session_id='run-42', agents=0, spent=0.0)"
    assert repr(CostPolicyEnforcer(CostConfig(budget_usd=1), session_id="s")).endswith("session_id='s', calls=0)")
