"""The agent and the simulated providers, for tests of capture."""

from __future__ import annotations

from typing import Iterator

import pytest

from aicostguard.health import health
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.roots import few_roots, one_root  # noqa: F401


@pytest.fixture(scope="session")
def providers() -> Iterator[Simulator]:
    """Simulated providers on loopback, one port each."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(providers: Simulator) -> Simulator:
    """The providers, with an empty count and plain behaviour."""
    providers.reset_count()
    providers.set_default()
    providers.script([])
    return providers


@pytest.fixture
def agent(simulator: Simulator) -> Iterator[Agent]:
    """Metering on, for this test."""
    health.reset()
    agent = Agent(simulator)
    agent.on()
    yield agent
    agent.off()
    assert health.faults == {}
