"""The public names: each is there, typed, documented, and loaded only when it is used."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

pytest.importorskip("langchain_core")
import aicostguard

NAMES = [
    "feature",
    "labels",
    "session",
    "agent",
    "flush",
    "shutdown",
    "stats",
    "quality",
    "auto_instrument",
    "uninstrument",
    "flush_on_return",
    "CostConfig",
    "CostPolicyEnforcer",
    "CostTracker",
    "TokenUsage",
    "ModelPricing",
    "CostAttributionTree",
    "CostCalculator",
    "PricingRegistry",
    "enforce_budget_or_raise",
    "LangChainCostCallback",
    "OpenAICostExtractor",
    "AnthropicCostExtractor",
    "GoogleCostExtractor",
    "TrackedClient",
    "daily_cost_by_model",
    "cost_by_feature",
    "latency_percentiles",
    "check_cost_alert",
    "BudgetExhausted",
    "BudgetExceeded",
    "LoopDetected",
]
#: public as well, and asked for by their full name: its library is imported with it
NOT_STARRED = {"LangChainCostCallback"}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_public_and_says_what_it_is(name: str) -> None:
    value = getattr(aicostguard, name)
    assert (value.__doc__ or "").strip(), "no docstring"
    assert name in aicostguard.__all__ or name in NOT_STARRED
    if inspect.isfunction(value):
        given = inspect.signature(value)
        assert given.return_annotation is not inspect.Signature.empty
        assert all(item.annotation is not inspect.Parameter.empty for item in given.parameters.values())


def test_the_package_alone_loads_none_of_them() -> None:
    told = "import sys, aicostguard; print([m for m in sys.modules if m.startswith('aicostguard.')])"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
