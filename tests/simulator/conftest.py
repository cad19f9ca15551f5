"""One simulator for the folder, reset before each test."""

from __future__ import annotations

from typing import Iterator

import pytest

from aicostguard.simulator import Simulator
from tests.roots import few_roots, one_root  # noqa: F401


@pytest.fixture(scope="session")
def running() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def sim(running: Simulator) -> Simulator:
    running.reset()
    return running
