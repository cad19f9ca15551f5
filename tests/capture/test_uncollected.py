"""A stream that is open when the program ends, on a Python that collects nothing then: it is ended, and counted."""

from __future__ import annotations

from typing import Any, Iterator

import pytest

from aicostguard.capture import uncollected
from tests.agent import Agent
from tests.capture.tools import STREAM


@pytest.fixture
def as_on_pypy() -> Iterator[None]:
    """What is begun is remembered, as `auto` has it where nothing is collected at once."""
    uncollected.install()
    uncollected.install()
    yield
    uncollected.uninstall()


@pytest.fixture
def client(agent: Agent) -> Iterator[Any]:
    """The openai SDK."""
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=agent.simulator.base_url("openai"), api_key="x", max_retries=0) as made:
        yield made


def stream(client: Any) -> Any:
    found = iter(client.chat.completions.create(**STREAM))
    next(found)
    return found


@pytest.mark.ids("B10", "E3")
def test_what_is_open_at_the_end_is_counted_once(as_on_pypy: None, agent: Agent, client: Any) -> None:
    kept, read = stream(client), stream(client)
    list(read)
    assert len(agent.settled(1)) == 1
    uncollected.end()
    assert [receipt.get("partial") for receipt in agent.receipts] == [None, True]
    uncollected.end()
    assert len(agent.receipts) == 2
    del kept
    assert len(agent.receipts) == 2


@pytest.mark.ids("A12")
def test_nothing_is_kept_alive(as_on_pypy: None, agent: Agent, client: Any) -> None:
    left = stream(client)
    assert len(uncollected._open) == 1
    del left
    agent.settled(1)
    assert not uncollected._open


def test_taken_out_again(agent: Agent, client: Any) -> None:
    uncollected.install()
    uncollected.uninstall()
    list(stream(client))
    assert not uncollected._open and len(agent.settled(1)) == 1
