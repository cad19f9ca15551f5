"""What a receipt says about who made the call: feature by precedence, labels as set, the six keys of a plain call."""

from __future__ import annotations

from typing import Any, Iterator

import pytest

import aicostguard
from aicostguard.capture import caller
from aicostguard.capture.state import state
from aicostguard.receipt import CORE
from tests.agent import Agent

httpx = pytest.importorskip("httpx")

BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    caller.forget()
    yield
    caller.forget()


def ask(agent: Agent) -> Any:
    with httpx.Client() as client:
        client.post(agent.url("openai") + "/v1/chat/completions", json=BODY)
    return agent.receipts.pop()


@pytest.mark.ids("G03", "G25", "X4")
def test_a_plain_call_sends_exactly_six_keys(agent: Agent) -> None:
    agent.simulator.set_default(usage={"input_tokens": 12, "output_tokens": 3})
    assert tuple(ask(agent)) == CORE


@pytest.mark.ids("G06", "G25")
def test_explicit_goes_before_inferred_before_default(agent: Agent) -> None:
    state.default = "fallback"
    assert ask(agent)["feature"] == "ask"
    with aicostguard.feature("explicit"):
        assert ask(agent)["feature"] == "explicit"
    state.rule = caller.Rule(("*",))  # no frame is the user's own
    caller.forget()
    assert ask(agent)["feature"] == "fallback"
    with aicostguard.feature("explicit"):
        assert ask(agent)["feature"] == "explicit"
    state.default = None
    assert "feature" not in ask(agent)


@pytest.mark.ids("E14")
def test_labels_travel_with_the_receipt(agent: Agent) -> None:
    with aicostguard.labels(user="u-1", team="search", project="p", request="r-9", tags={"tier": "gold"}):
        with aicostguard.session("s-1"), aicostguard.agent("planner"), aicostguard.agent("writer"):
            receipt = ask(agent)
    wanted = {
        "user": "u-1",
        "team": "search",
        "project": "p",
        "request": "r-9",
        "tags": {"tier": "gold"},
        "session": "s-1",
        "agent": "writer",
        "parent_agent": "planner",
    }
    assert {key: receipt[key] for key in wanted} == wanted
    assert not set(wanted) & set(ask(agent))


def test_a_label_that_does_not_fit_is_replaced_and_two_stay_apart(agent: Agent) -> None:
    def user_of(text: str) -> str:
        with aicostguard.labels(user=text):
            return str(ask(agent)["user"])

    first, second = user_of("who is she?\n"), user_of("x" * 200)
    assert first.startswith("replaced-")
    assert second.startswith("replaced-")
    assert first != second
    assert first == user_of("who is she?\n")
