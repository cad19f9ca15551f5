"""The frameworks that agents are written with, each called as its user does, in environments of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Dict, List

import pytest

from tests.ids import ROOT

#: framework → the cases of the matrix that call it
FRAMEWORKS: Dict[str, List[str]] = {
    "LangChain": ["langchain-openai", "langchain-anthropic", "langchain.agent"],
    "LangGraph": ["langgraph.node", "langgraph.nested"],
    "LlamaIndex": ["llama-index-llms-openai", "llama-index.agents", "llama-index.team"],
    "CrewAI": ["crewai"],
    "OpenAI Agents": ["openai-agents", "openai-agents.team"],
    "pydantic-ai": ["pydantic-ai.openai", "pydantic-ai.anthropic", "pydantic-ai.google"],
    "Google ADK": ["google-adk"],
    "Agno": ["agno", "agno.team"],
    "Strands Agents": ["strands.openai", "strands.anthropic", "strands.graph"],
    "Microsoft Agent Framework": ["agent-framework"],
    "AutoGen": ["autogen.agent", "autogen.team"],
}


@pytest.mark.ids("B42", "G11")
@pytest.mark.skipif(sys.version_info < (3, 11), reason="the matrix runs on the main interpreter")
def test_every_framework_has_one_receipt_for_a_call() -> None:
    """Provider, model, tokens, feature and agents are right, and its user sees what is seen without us.

    Installs the frameworks; needs the package index the first time.
    """
    import tests.matrix.families  # noqa: F401
    from tests.matrix.case import CASES, ENVIRONMENTS

    wanted = {case for cases in FRAMEWORKS.values() for case in cases}
    chosen = {name: set(row.cases) & wanted for name, row in ENVIRONMENTS.items() if set(row.cases) & wanted}
    assert set().union(*chosen.values()) == wanted <= set(CASES), "each is called in some environment"
    names = sorted("^%s$" % name for name in chosen)
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "matrix"), *names, "--orders", "before"],
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        timeout=3000,  # a bound for what hangs; on a busy machine it takes its time
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
