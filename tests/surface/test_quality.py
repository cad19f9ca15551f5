"""`aicostguard.quality` with a ledger behind it: the score stands beside the cost of the call."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterator

import pytest

import aicostguard
from aicostguard import ledger
from aicostguard.delivery import scored
from aicostguard.ledger import comparing
from tests.ledger.support import KEY, envelope, receipt, serving, take


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    if scored._made is not None:
        scored._made.end()
        scored._made = None


def of(store: Any) -> dict[str, Any]:
    """The models of a comparison, by name."""
    ledger.drain(store)
    rows = comparing.compare(store, {"since": ["30d"]}, store.default_project(), ledger.now_ms())["models"]
    return {row["model"]: row for row in rows}


@pytest.mark.ids("A29", "A34")
@pytest.mark.parametrize("served", [True, False], ids=["served", "file"])
def test_a_score_is_joined_to_its_call(
    served: bool, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ledger.open_ledger(str(place))
    try:
        body = envelope([receipt(model="gpt-4o", request="job-17"), receipt(model="gpt-4o-mini", request="job-18")])
        take(store, body)
        with serving(store) as server:
            monkeypatch.setenv("AICG_URL", f"http://127.0.0.1:{server.port}" if served else f"sqlite:///{place}")
            monkeypatch.setenv("AICG_KEY", KEY)
            with aicostguard.labels(request="job-17"):
                assert aicostguard.quality("accuracy", 0.5)
            assert aicostguard.quality("accuracy", 1.0, request="job-18")
            assert aicostguard.quality("accuracy", 0.75, request="job-17")
            assert aicostguard.quality("bleu", 30.5, run="nightly", model="o3")
            assert aicostguard.flush(20)
            found = of(store)
    finally:
        store.close()
    assert found["gpt-4o"]["quality"]["accuracy"] == {"scores": 1, "mean": 0.75, "low": None, "high": None}
    assert found["gpt-4o-mini"]["avg_quality"] == 1.0
    assert found["o3"]["calls"] == 0 and found["o3"]["avg_quality"] == 30.5
