"""Each label that a rule may name limits the calls that have it, and no others; loops that only warn stop nobody."""

from __future__ import annotations

from typing import Any, Dict, Iterator, Tuple

import pytest

import aicostguard
from aicostguard.config import load
from aicostguard.guard import enforcing
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.policy import Budget, Policy
from aicostguard.guard.values import LABELS
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.guard.budgets import CENT, GPT, HI, cap, gate
from tests.safety.calls import Clients

#: label → what it is in the call below, and a value that it is not
VALUES: Dict[str, Tuple[str, str]] = {
    "project": ("shop", "blog"),
    "team": ("search", "ads"),
    "user": ("u1", "u2"),
    "session": ("s1", "s2"),
    "feature": ("asked_by_me", "asked_by_nobody"),
    "agent": ("writer", "reader"),
    "parent_agent": ("editor", "writer"),
    "model": (GPT, "gpt-4o-mini"),
    "provider": ("openai", "anthropic"),
    "operation": ("embeddings", "image"),
    "service": ("web", "batch"),
    "environment": ("prod", "test"),
    "tags.tier": ("gold", "silver"),
}
#: organisations are known to the ledger, not to a program
NOT_HERE = ("organisation",)


@pytest.fixture(autouse=True)
def no_gate() -> Iterator[None]:
    """No gate after a test."""
    yield
    enforcing.stop()


def asked_by_me(clients: Clients, embedding: bool) -> None:
    client = clients["openai"]
    given: Any = {"team": "search", "user": "u1", "session": "s1", "project": "shop", "tags": {"tier": "gold"}}
    with aicostguard.labels(**given), aicostguard.agent("editor"), aicostguard.agent("writer"):
        if embedding:
            client.embeddings.create(model="text-embedding-3-small", input="hi")
        else:
            client.chat.completions.create(model=GPT, messages=HI, max_tokens=5)


@pytest.mark.ids("A13", "ACC:B15", "ACC:Z2")
@pytest.mark.parametrize("label", VALUES)
def test_a_rule_for_a_label_holds_for_who_has_it(
    label: str, agent: Agent, clients: Clients, simulator: Simulator
) -> None:
    settings = load({"AICG_SERVICE": "web", "AICG_ENVIRONMENT": "prod"})
    for value, refused in zip(VALUES[label], (True, False)):
        enforcing.start(Policy(budgets=(Budget("none", 0, "requests", match={label: value}),)), settings)
        if refused:
            with pytest.raises(BudgetExceeded):
                asked_by_me(clients, label == "operation")
        else:
            asked_by_me(clients, label == "operation")
        assert len(simulator.billed()) == (0 if refused else 1)


def test_every_label_is_tried() -> None:
    assert {*VALUES, *NOT_HERE} == {*LABELS, "tags.tier"}


@pytest.mark.ids("ACC:B33", "ACC:B12", "D8")
def test_a_loop_that_only_warns_is_told_once_and_stops_nobody(
    agent: Agent, clients: Clients, simulator: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    gate(cap(1000 * CENT), loop_threshold=3)
    for _ in range(6):
        clients["openai"].chat.completions.create(model=GPT, messages=HI, max_tokens=5)
    assert len(simulator.billed()) == 6
    assert len([one for one in caplog.records if "Loop detected" in one.getMessage()]) == 1
    gate(cap(1000 * CENT), loop_threshold=3, loop_action="off")
    caplog.clear()
    for _ in range(4):
        clients["openai"].chat.completions.create(model=GPT, messages=HI, max_tokens=5)
    assert "Loop" not in caplog.text
