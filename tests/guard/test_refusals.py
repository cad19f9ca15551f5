"""A refused call sends nothing, and its user gets the refusal as itself, once, from whatever they call with.

The ways of calling are those of the trust contract; `scripts/matrix --orders refused` does the same for every SDK,
framework and version of the matrix.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import Any, List

import pytest

from aicostguard.capture.gate import Refused
from aicostguard.capture.state import state
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.simulator import Simulator
from tests import claude
from tests.agent import Agent
from tests.safety.calls import CALLS, HI, Clients

#: calls to what is no AI endpoint, or that no table knows: nothing to ask about
NOBODYS = [name for name in CALLS if name.endswith("_of_others")]
#: what a session bills beside its turns, and what nobody asks for: it cannot be refused
UNASKED = ("transcription",)


class Wall:
    """A gate that lets nothing through."""

    def __init__(self) -> None:
        self.asked: List[Any] = []
        self.raised: List[BudgetExceeded] = []

    def ask(self, call: Any) -> Any:
        self.asked.append(call)
        self.raised.append(BudgetExceeded("Session spend $5.12 would exceed per-session limit $5.00", limit=5))
        raise Refused(self.raised[-1])

    async def aask(self, call: Any) -> Any:
        await asyncio.sleep(0)
        self.ask(call)

    def settle(self, held: Any, receipts: Any) -> None:
        raise AssertionError("nothing is held")

    release = lost = passing = settle  # type: ignore[assignment]


claude.stand_in()


@pytest.fixture
def wall(agent: Agent) -> Wall:
    made = Wall()
    state.gate = made  # type: ignore[assignment]
    return made


@pytest.mark.ids("D12", "ACC:B11", "ACC:B15", "ACC:A16")
@pytest.mark.parametrize("name", [name for name in CALLS if name not in NOBODYS])
# Some of these calls are written without a `with`: an error leaves their sockets to the garbage collector.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_refused_call_sends_nothing_and_says_why_itself(
    name: str, wall: Wall, clients: Clients, simulator: Simulator
) -> None:
    with pytest.raises(Exception) as caught:
        CALLS[name](clients)
    error: Any = caught.value
    if name == "socket_httpx2_async":  # puts whatever is raised inside its `async with` into a group
        error = error.exceptions[0]
    assert error is wall.raised[0], "the error of the gate, not a copy and not a wrapper"
    assert len(wall.asked) == 1, "asked once, not once an attempt"
    assert [row for row in simulator.billed() if row.format not in UNASKED] == []
    assert [row.path for row in simulator.exchanges if row.method == "POST"] == []
    # Nothing of ours is shown as its cause.
    assert error.__cause__ is None
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert "Refused" not in shown.replace("raise Refused", "")
    del caught, error, shown
    gc.collect()


@pytest.mark.ids("D12")
@pytest.mark.parametrize("retries", [0, 2, 5])
def test_an_sdk_does_not_retry_a_refusal(wall: Wall, simulator: Simulator, retries: int) -> None:
    import openai

    with openai.OpenAI(base_url=simulator.base_url("openai"), api_key="x", max_retries=retries) as client:
        for _ in range(3):
            with pytest.raises(BudgetExceeded):
                client.chat.completions.create(model="gpt-4o", messages=HI)  # type: ignore[arg-type]
    assert len(wall.asked) == 3
    assert simulator.exchanges == []


@pytest.mark.ids("D12")
def test_anthropic_which_retries_whatever_is_raised_does_not_retry_a_refusal(wall: Wall, simulator: Simulator) -> None:
    import anthropic

    with anthropic.Anthropic(base_url=simulator.urls["anthropic"], api_key="x", max_retries=2) as client:
        with pytest.raises(BudgetExceeded):
            client.messages.create(model="claude-sonnet-4-6", max_tokens=5, messages=HI)  # type: ignore[arg-type]
    assert len(wall.asked) == 1


@pytest.mark.ids("D12")
def test_a_refusal_reaches_who_waits_for_another_thread(wall: Wall, clients: Clients) -> None:
    """Pools, bare threads and `to_thread`, around an SDK and around a plain HTTP client."""
    asks = [CALLS["openai_plain"], CALLS["httpx_plain"]]
    with ThreadPoolExecutor(2) as pool:
        for ask in asks:
            assert isinstance(pool.submit(ask, clients).exception(timeout=30), BudgetExceeded)
            with pytest.raises(BudgetExceeded):
                asyncio.run(asyncio.to_thread(ask, clients))
    for ask in asks:
        seen: List[BaseException] = []
        thread = threading.Thread(target=_told, args=(seen, ask, clients))
        thread.start()
        thread.join(30)
        assert [type(error) for error in seen] == [BudgetExceeded]


def _told(seen: List[BaseException], ask: Any, *args: Any) -> None:
    try:
        ask(*args)
    except Exception as error:  # what is no Exception would be seen by nobody
        seen.append(error)


@pytest.mark.ids("D12")
def test_who_makes_a_thread_inside_an_sdk_hears_of_it_as_an_exception(wall: Wall, simulator: Simulator) -> None:
    """A transport that sends on a thread of its own, as some do under an SDK: that thread's owner sees an Exception."""
    import httpx
    import openai

    seen: List[BaseException] = []

    class Threaded(httpx.Client):
        def send(self, *args: Any, **kwargs: Any) -> Any:
            got: List[Any] = []

            def run() -> None:
                try:
                    got.append(super(Threaded, self).send(*args, **kwargs))
                except Exception as error:
                    seen.append(error)

            thread = threading.Thread(target=run)
            thread.start()
            thread.join(30)
            if not got:
                raise RuntimeError("the thread gave nothing")
            return got[0]

    client: Any = httpx.Client
    try:
        with Threaded() as http, pytest.raises((openai.APIConnectionError, RuntimeError)):
            openai.OpenAI(
                base_url=simulator.base_url("openai"), api_key="x", max_retries=0, http_client=http
            ).chat.completions.create(model="gpt-4o", messages=HI)  # type: ignore[arg-type]
    except TypeError:
        pytest.skip("this openai takes no client of %s" % client.__module__)
    assert [type(error) for error in seen] == [BudgetExceeded]


@pytest.mark.ids("D12", "A7")
def test_several_tasks_are_each_refused(wall: Wall, clients: Clients) -> None:
    async def ask() -> Any:
        create = clients["openai async"].chat.completions.create
        return await asyncio.gather(*(create(model="gpt-4o", messages=HI) for _ in range(5)), return_exceptions=True)

    assert [type(error) for error in clients.run(ask())] == [BudgetExceeded] * 5


@pytest.mark.ids("D4", "D12")
def test_nothing_is_asked_without_a_gate_and_of_nobodys_calls(agent: Agent, clients: Clients) -> None:
    for name in ("openai_plain", "httpx_async_stream", *NOBODYS):
        CALLS[name](clients)
    wall = Wall()
    state.gate = wall  # type: ignore[assignment]
    for name in NOBODYS:
        CALLS[name](clients)
    assert wall.asked == []
