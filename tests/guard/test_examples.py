"""The sources' samples, with only their import lines changed, run and say what the sources say; and their comparison
table, row by row."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator

import pytest

from aicostguard import (
    AnthropicCostExtractor,
    CostAttributionTree,
    CostConfig,
    CostTracker,
    GoogleCostExtractor,
    ModelPricing,
    OpenAICostExtractor,
    TokenUsage,
    cli,
    receipt,
)
from aicostguard.simulator import Simulator

FOLDER = Path(__file__).resolve().parent.parent.parent / "examples" / "governance"
SAYS = {
    "enforce.py": ["Allowed. Cost: $0.0225, Total: $0.0225"],
    "loop.py": ["Loop detected at call 5"],
    "prices.py": ["Spent: $0.0700"],
    "track.py": ["Request cost: $0.0088", "2000 tokens, $0.00875"],
    "tree.py": ["Multi-Agent Cost Attribution", "=" * 40, "Global: $0.1008 spent", "Budget: $50.00 (0% used)"],
}
ASKS = {"with_openai.py": "openai", "with_anthropic.py": "anthropic", "with_google.py": "google.genai",
        "with_langchain.py": "langchain_openai"}  # fmt: skip


@pytest.fixture(scope="module")
def sim() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


def run(name: str, **environ: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, str(FOLDER / name)],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.ids("B03", "ACC:B16", "B18", "B31", "B33", "D01", "D02")
@pytest.mark.parametrize("name", SAYS)
def test_a_sample_says_what_its_source_says(name: str) -> None:
    assert run(name)[: len(SAYS[name])] == SAYS[name]


@pytest.mark.ids("B24", "B25", "B26", "B27")
@pytest.mark.parametrize("name", ASKS)
def test_a_sample_with_an_sdk_costs_what_was_billed(sim: Simulator, name: str) -> None:
    pytest.importorskip(ASKS[name])
    sim.reset()
    (line,) = run(
        name,
        OPENAI_API_KEY="k",
        OPENAI_BASE_URL=sim.base_url("openai"),
        ANTHROPIC_API_KEY="k",
        ANTHROPIC_BASE_URL=sim.urls["anthropic"],
        GEMINI_API_KEY="k",
        GOOGLE_GEMINI_BASE_URL=sim.urls["google"],
    )
    (row,) = sim.billed()
    tracker = CostTracker(max_budget=10.0 if "langchain" in name else 5.0)
    tracker.record(TokenUsage.of(receipt.build(row.provider, row.model, row.usage, {})[0]))
    assert line == f"Spent: ${tracker.spent:.4f}, Remaining: ${tracker.remaining:.4f}"


def test_every_sample_is_run() -> None:
    assert {path.name for path in FOLDER.glob("*.py")} == {*SAYS, *ASKS}


@pytest.mark.ids("B01")
def test_the_sample_policy_is_right(capsys: Any) -> None:
    assert cli.main(["policy", "check", str(FOLDER / "aicostguard.yaml")]) == 0
    assert "5 budgets" in capsys.readouterr().out


#: a row of the comparison at the end of the source → does it hold here?
TABLE = {
    "Multi-limits: per-call, session, daily, rate, total": lambda: (
        {budget.period for budget in _all_limits().policy().budgets} == {"call", "session", "day", "minute", "total"}
    ),
    "Attribution: hierarchical tree with roll-up": lambda: callable(CostAttributionTree().format_report),
    "Loop detection: automatic, 5 calls in 60 s": lambda: (
        (CostConfig().policy().loop_threshold, CostConfig().policy().loop_window) == (5, 60.0)
    ),
    "Prices: 15 and more families": lambda: all(
        ModelPricing().price(name, {"input_tokens": 1000, "output_tokens": 1000}).cost_nanousd for name in FAMILIES
    ),
    "Callbacks: LangChain, OpenAI, Anthropic, Google": lambda: all(
        callable(extractor(CostTracker()).record)
        for extractor in (OpenAICostExtractor, AnthropicCostExtractor, GoogleCostExtractor)
    ),
}
FAMILIES = (
    "gpt-4o", "gpt-4o-mini", "gpt-4.1", "o3", "o3-mini", "gpt-4", "gpt-3.5-turbo", "claude-opus-4", "claude-sonnet-4",
    "claude-3-haiku", "claude-3-5-sonnet", "gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.0-flash",
    "deepseek-chat", "mistral-large-latest", "command-r-plus", "grok-3",
)  # fmt: skip


def _all_limits() -> CostConfig:
    return CostConfig(
        budget_usd=1, per_call_limit_usd=1, per_session_limit_usd=1, daily_budget_usd=1, per_minute_tokens=1
    )


@pytest.mark.ids("B07", "B33", "B40")
@pytest.mark.parametrize("row", TABLE)
def test_the_sources_comparison_holds_row_by_row(row: str) -> None:
    assert TABLE[row]()


@pytest.mark.ids("B39")
def test_the_guard_needs_python_alone() -> None:
    code = (
        "import sys; sys.path.insert(0, %r)\n"
        "import aicostguard as a\n"
        "from aicostguard.guard import policyfile\n"
        "e = a.CostPolicyEnforcer(a.CostConfig(budget_usd=1))\n"
        "assert e.check_and_record(a.TokenUsage('gpt-4o', 1, 1)).allowed\n"
        "a.CostTracker().track('gpt-4o', 1, 1); a.CostAttributionTree(); a.OpenAICostExtractor\n"
    ) % str(FOLDER.parent.parent)
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=60)
