"""Turns of a session under a budget of money: held by the dearest of their like, refused when nothing is left."""

from __future__ import annotations

from typing import Any, Callable

import pytest

from aicostguard.guard.errors import BudgetExceeded
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.guard.budgets import CENT, cap, gate, standing

pytest.importorskip("websockets")
openai = pytest.importorskip("openai")

#: openai still opens sessions in the way that websockets 17.1 discourages
pytestmark = pytest.mark.filterwarnings(r"ignore:connect\(\) must be used as a context:DeprecationWarning")


def turn(connection: Any, reserved: Callable[[], int] = lambda: 0) -> int:
    """One of them; what was held for it."""
    connection.response.create()
    held = reserved()
    for event in connection:
        if event.type == "response.done":
            break
    return held


@pytest.mark.ids("D12", "ACC:B11", "ACC:B15")
def test_a_turn_holds_what_the_dearest_of_its_like_has_used_and_is_refused_when_nothing_is_left(
    agent: Agent, simulator: Simulator
) -> None:
    made = gate(cap(100 * CENT))

    def reserved() -> int:
        return int(made.guard.status()[0].reserved)

    with openai.OpenAI(base_url=agent.url("openai") + "/v1", api_key="x") as client:
        with client.realtime.connect(model="gpt-realtime") as connection:
            assert turn(connection, reserved) == 1, "nothing is known of the first"
            dearest = standing().spent
            assert turn(connection, reserved) == dearest > 1
            gate(cap(1))  # the next turn passes it, and it is the last one
            turn(connection)
            with pytest.raises(BudgetExceeded):
                connection.response.create()
    assert len([row for row in simulator.billed() if row.format == "realtime"]) == 3


@pytest.mark.parametrize("way", ["realtime", "responses"])
def test_a_policy_that_refuses_what_has_no_price_lets_a_priced_session_go_on(agent: Agent, way: str) -> None:
    gate(cap(100 * CENT), on_unpriced="block")
    with openai.OpenAI(base_url=agent.url("openai") + "/v1", api_key="x") as client:
        if way == "realtime":
            with client.realtime.connect(model="gpt-realtime") as connection:
                turn(connection)
        else:
            with client.responses.connect() as connection:
                connection.response.create(model="gpt-5", input="one")
                next(event for event in connection if event.type == "response.completed")
    assert standing().spent > 0
