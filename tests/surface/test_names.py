"""The public names: each is there, typed, documented, and loaded only when it is used."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

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


#: each line is right or has the error that is named
TYPED = """
from aicostguard import CostConfig, CostPolicyEnforcer, CostTracker, LangChainCostCallback, TokenUsage
from aicostguard import CostTrakcer  # E: attr-defined
import aicostguard
aicostguard.shut_down()  # E: attr-defined
spent: float = CostTracker(max_budget=10.0).spent
CostTracker(max_budgets=10.0)  # E: call-arg
blocked: bool = CostPolicyEnforcer(CostConfig(budget_usd=1)).check_and_record(TokenUsage("gpt-4o", 1, 2)).blocked
TokenUsage("gpt-4o", "1")  # E: arg-type
LangChainCostCallback(CostTracker(), agent_id="a")
"""


def test_a_type_checker_sees_the_names_and_misspelt_ones(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "program.py").write_text(TYPED)
    command = [sys.executable, "-m", "mypy", "--config-file=", "--follow-imports=silent", "--cache-dir=cache"]
    env = {**os.environ, "MYPYPATH": str(Path(aicostguard.__file__).parents[1])}
    done = subprocess.run([*command, "program.py"], cwd=tmp_path, env=env, capture_output=True, text=True)
    found = re.findall(r"^program\.py:(\d+): error: .*\[([a-z-]+)\]", done.stdout, re.M)
    wanted = [
        (str(number), line.partition("# E: ")[2]) for number, line in enumerate(TYPED.split("\n"), 1) if "# E: " in line
    ]
    assert found == wanted, done.stdout + done.stderr
