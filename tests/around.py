"""The agent, the simulated providers and the clients: fixtures of all tests that call providers in this process.

A folder's `conftest.py` imports those that it wants.
"""

from __future__ import annotations

from typing import Iterator

import pytest

from aicostguard import health as our_health
from aicostguard.health import health
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.safety.calls import Clients


@pytest.fixture(scope="session")
def providers() -> Iterator[Simulator]:
    """Simulated providers on loopback, one port each."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def simulator(providers: Simulator) -> Simulator:
    """The providers, with an empty count and plain behaviour."""
    providers.reset()
    return providers


@pytest.fixture(scope="session")
def clients(providers: Simulator) -> Iterator[Clients]:
    """One client per library. Made while the agent is off; the hooks are on the classes."""
    made = Clients(providers)
    yield made
    made.close()


def metered(simulator: Simulator) -> Iterator[Agent]:
    """Metering on, as long as a fixture lasts."""
    health.reset()
    made = Agent(simulator)
    made.on()
    yield made
    made.off()


@pytest.fixture
def agent(simulator: Simulator) -> Iterator[Agent]:
    """Metering on, for a test in which nothing of ours may fail."""
    yield from metered(simulator)
    assert health.faults == {}
    health.reset()


@pytest.fixture
def as_in_production(monkeypatch: pytest.MonkeyPatch) -> None:
    """Faults of ours are counted, not raised."""
    monkeypatch.setattr(our_health, "_raise", False)
