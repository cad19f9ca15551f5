"""Simulated providers, a folder of one's own to work in, and an agent that a test leaves as it found it."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from aicostguard.capture import hooks
from aicostguard.capture.state import state
from aicostguard.health import health
from aicostguard.simulator import Simulator


@pytest.fixture(scope="session")
def providers() -> Iterator[Simulator]:
    with Simulator(("openai", "anthropic")) as simulator:
        yield simulator


@pytest.fixture
def sim(providers: Simulator) -> Simulator:
    """The providers, with an empty count and plain behaviour."""
    providers.reset()
    return providers


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file for a ledger, in the working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AICG_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "ai_costs.db"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    health.reset()
    yield
    hooks.uninstall()
    state.__init__()  # type: ignore[misc]
    assert health.faults == {}
