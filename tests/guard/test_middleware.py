"""A web application under `BudgetMiddleware`: labels from the request, and 402 for a call without room."""

from __future__ import annotations

import time
from typing import Any

import pytest

from aicostguard.guard.middleware import TEXT, BudgetMiddleware
from aicostguard.guard.policy import Budget
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.guard.budgets import CENT, GPT, HI, gate
from tests.safety.calls import Clients

fastapi = pytest.importorskip("fastapi")
testclient = pytest.importorskip("starlette.testclient")


@pytest.fixture(autouse=True)
def no_gate() -> Any:
    """No gate after a test."""
    from aicostguard.guard import enforcing

    yield
    enforcing.stop()


def application(clients: Clients, **given: Any) -> Any:
    app = fastapi.FastAPI()
    app.add_middleware(BudgetMiddleware, **given)

    @app.get("/plain")
    def plain() -> Any:  # in a thread of Starlette's
        return clients["openai"].chat.completions.create(model=GPT, messages=HI, max_tokens=50).model_dump()

    @app.get("/fails")
    def fails() -> Any:
        raise RuntimeError("the application's own")

    return app


@pytest.mark.ids("ACC:A09", "ACC:A16", "ACC:A31", "ACC:B15", "G27")
def test_a_refused_call_is_402_with_its_reason(agent: Agent, clients: Clients, simulator: Simulator) -> None:
    gate(Budget("team", CENT, match={"team": "search"}, per=("tags.customer",), period="day"))
    app = application(clients, headers={"X-Team": "team", "x-customer": "tags.customer"})
    with testclient.TestClient(app) as client:
        search = {"x-team": "search", "x-customer": "a"}
        answers = [client.get("/plain", headers=search) for _ in range(40)]
        last = answers[-1]
        assert answers[0].status_code == 200 and last.status_code == 402
        assert last.json()["detail"] == TEXT == "Budget limit reached. Inference blocked."
        assert "would exceed" in last.json()["reason"]
        # A day's budget: back by midnight UTC.
        assert 0 < int(last.headers["retry-after"]) <= 86_400
        sent = len(simulator.exchanges)
        assert client.get("/plain", headers=search).status_code == 402
        assert len(simulator.exchanges) == sent
        # Another customer has a budget of his own, another team has none.
        assert client.get("/plain", headers={"x-team": "search", "x-customer": "b"}).status_code == 200
        assert client.get("/plain", headers={"x-team": "ads"}).status_code == 200
    assert {receipt.get("team") for receipt in agent.receipts} == {"search", "ads"}
    assert time.time() > 0


@pytest.mark.ids("ACC:A31")
def test_labels_of_a_function_and_errors_of_the_application(agent: Agent, clients: Clients) -> None:
    gate(Budget("nothing", 1, match={"user": "ann"}))
    app = application(clients, labels=lambda scope: {"user": scope["path"].strip("/") and "ann"}, explain=False)
    with testclient.TestClient(app, raise_server_exceptions=False) as client:
        refused = client.get("/plain")
        assert (refused.status_code, refused.json()) == (402, {"detail": TEXT})
        assert "retry-after" not in refused.headers, "it never resets"
        assert client.get("/fails").status_code == 500


@pytest.mark.ids("ACC:B03")
def test_a_label_that_does_not_exist_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"tags\.NAME"):
        BudgetMiddleware(lambda *_: None, headers={"x-team": "teem"})  # type: ignore[arg-type, return-value]
