"""Whole programs of every kind of host, beside the simulated provider and a ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Iterator

import pytest

from aicostguard.simulator import Simulator
from tests.delivery.fake_ledger import FakeLedger
from tests.delivery.hosts.place import Place


@pytest.fixture(scope="module")
def providers() -> Iterator[Simulator]:
    with Simulator(("openai",)) as simulator:
        yield simulator


@pytest.fixture
def ledger() -> Iterator[FakeLedger]:
    with FakeLedger() as ledger:
        yield ledger


@pytest.fixture
def place(tmp_path: Path, providers: Simulator, ledger: FakeLedger) -> Iterator[Place]:
    providers.reset_count()
    made = Place(tmp_path, providers, ledger.url)
    yield made
    made.close()
