"""The agent, the simulated providers and the clients, for tests of the trust contract."""

from __future__ import annotations

from pathlib import Path
from typing import Callable, Iterator

import pytest

from aicostguard import health as our_health
from aicostguard.health import health
from aicostguard.simulator import Simulator
from tests import around
from tests.agent import Agent
from tests.roots import few_roots, one_root  # noqa: F401
from tests.safety import wiring
from tests.safety.wiring import Outlets, Wire

providers, simulator, clients = around.providers, around.simulator, around.clients
as_in_production = around.as_in_production


@pytest.fixture
def agent(simulator: Simulator) -> Iterator[Agent]:
    """Metering on, for a test in which ours may fail."""
    yield from around.metered(simulator)
    health.reset()


@pytest.fixture
def outlets(tmp_path: Path) -> Outlets:
    """Where the agent of `wired` writes."""
    return Outlets(tmp_path / "state", tmp_path / "ledger.db")


@pytest.fixture
def wired(simulator: Simulator, outlets: Outlets) -> Iterator[Wire]:
    """`wired(url, MODE="inline")`: the whole agent, delivering to `url`; all other settings without their prefix."""

    def make(url: str, **more: str) -> object:
        environ = {"AICG_URL": url, "AICG_KEY": wiring.KEY, "AICG_STATE_DIR": str(outlets.state)}
        environ["AICG_HOSTS"] = simulator.hosts_setting()
        environ.update(("AICG_" + name, value) for name, value in more.items())
        return wiring.switch_on(environ)

    health.reset()
    yield make
    wiring.switch_off()


@pytest.fixture
def listening(
    outlets: Outlets,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    as_in_production: None,
) -> Callable[[], None]:
    """`AICG_DEBUG=1` from here on. Call it to add what was printed and logged so far to the outlets."""
    monkeypatch.setattr(our_health, "_debug", True)
    caplog.set_level("DEBUG", logger="aicostguard")

    def listen() -> None:
        captured = capfd.readouterr()
        ours = [record for record in caplog.records if record.name.startswith("aicostguard")]
        outlets.spoken += [captured.out, captured.err]
        outlets.spoken += ["%s %s" % (record.getMessage(), record.exc_info) for record in ours]

    return listen
