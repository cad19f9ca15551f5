"""`LangChainCostCallback` in real LangChain: each model call once, however it is made."""

from __future__ import annotations

import asyncio
import pickle
from typing import Any, Iterator

import pytest

from aicostguard import BudgetExceeded, CostTracker, LoopDetected
from aicostguard.simulator import Simulator
from tests.guard.test_extractors import billed

openai = pytest.importorskip("langchain_openai", reason="langchain-openai needs CPython 3.11")

import openai as sdk  # noqa: E402  not before the skip
from langchain_core.callbacks import BaseCallbackHandler  # noqa: E402  not before the skip
from langchain_core.messages import AIMessage, HumanMessage  # noqa: E402
from langchain_core.outputs import ChatGeneration, Generation, LLMResult  # noqa: E402
from langchain_core.prompts import ChatPromptTemplate  # noqa: E402
from langchain_core.runnables import RunnableLambda  # noqa: E402

from aicostguard import LangChainCostCallback  # noqa: E402


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator() as simulator:
        yield simulator


@pytest.fixture
def sim(running: Simulator) -> Simulator:
    running.reset()
    running.set_default(usage={"cache_read_input_tokens": 400, "reasoning_output_tokens": 30})
    return running


def model(sim: Simulator, *callbacks: Any, **more: Any) -> Any:
    return openai.ChatOpenAI(
        model="gpt-4o", api_key="k", base_url=sim.base_url("openai"), max_retries=0, callbacks=list(callbacks), **more
    )


@pytest.mark.ids("B24")
def test_it_is_a_real_handler(sim: Simulator) -> None:
    tracker = CostTracker(max_budget=10.0)
    callback = LangChainCostCallback(tracker, agent_id="research-agent")
    assert isinstance(callback, BaseCallbackHandler)
    model(sim, callback).invoke("Summarize this document...")
    assert tracker.spent_nanousd == billed(sim)
    assert tracker.by_agent == {"research-agent": tracker.spent}
    assert tracker.remaining == 10.0 - tracker.spent
    assert pickle.loads(pickle.dumps(LangChainCostCallback)) is LangChainCostCallback


async def _astream(llm: Any) -> None:
    async for _ in llm.astream("Hi"):
        pass


SYNC = {
    "invoke": lambda llm: llm.invoke("Hi"),
    "stream": lambda llm: list(llm.stream("Hi")),
    "batch": lambda llm: llm.batch(["one", "two", "three"]),
    "generate": lambda llm: llm.generate([[HumanMessage("one")]]),
}
ASYNC = {
    "ainvoke": lambda llm: llm.ainvoke("Hi"),
    "astream": _astream,
    "abatch": lambda llm: llm.abatch(["one", "two", "three"]),
}


def ask(way: str, sim: Simulator, callback: Any) -> None:
    """One way of asking, with a client of its own where a loop would outlive it."""

    async def aask() -> None:
        async with sdk.DefaultAsyncHttpxClient() as client:
            await ASYNC[way](model(sim, callback, stream_usage=True, http_async_client=client))

    if way in ASYNC:
        asyncio.run(aask())
    else:
        SYNC[way](model(sim, callback, stream_usage=True))


@pytest.mark.ids("B24", "B1")
@pytest.mark.parametrize("way", [*SYNC, *ASYNC])
def test_each_call_is_counted_once(sim: Simulator, way: str) -> None:
    tracker = CostTracker()
    ask(way, sim, LangChainCostCallback(tracker))
    assert tracker.call_count == len(sim.billed()) and tracker.unpriced == 0
    assert tracker.spent_nanousd == billed(sim)


@pytest.mark.ids("B24", "B1")
@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_several_answers_to_one_prompt_and_both_apis(sim: Simulator, responses: bool) -> None:
    tracker = CostTracker()
    more = {"use_responses_api": True} if responses else {"n": 2}
    model(sim, LangChainCostCallback(tracker), **more).invoke("Hi")
    assert tracker.call_count == 1 and tracker.spent_nanousd == billed(sim)


@pytest.mark.ids("B24", "B1", "B17")
def test_nested_chains_and_a_handler_given_twice_count_once(sim: Simulator) -> None:
    tracker = CostTracker()
    callback = LangChainCostCallback(tracker)
    llm = model(sim, callback)
    inner = ChatPromptTemplate.from_messages([("human", "{topic}")]) | llm
    outer = RunnableLambda(lambda topic: inner.invoke({"topic": topic})) | RunnableLambda(lambda answer: answer.content)
    (outer | RunnableLambda(lambda text: llm.invoke("check " + text))).invoke("cost", config={"callbacks": [callback]})
    assert tracker.call_count == len(sim.billed()) == 2
    assert tracker.spent_nanousd == billed(sim)


@pytest.mark.ids("B24", "B4")
def test_a_call_that_failed_costs_nothing(sim: Simulator) -> None:
    sim.set_default(status=400)
    tracker = CostTracker()
    with pytest.raises(Exception, match="400"):
        model(sim, LangChainCostCallback(tracker)).invoke("Hi")
    assert tracker.call_count == 0


@pytest.mark.ids("B23", "B24")
@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_a_budget_that_is_used_up_stops_the_next_call_before_it_is_made(sim: Simulator, way: str) -> None:
    tracker = CostTracker(max_budget="0.000001")
    callback = LangChainCostCallback(tracker)
    with pytest.raises(BudgetExceeded, match="exceeds budget"):
        ask(way, sim, callback)
    assert len(sim.billed()) == 1 and tracker.spent_nanousd == billed(sim), "it was made, so it is counted"
    with pytest.raises(BudgetExceeded, match="is used up"):
        ask(way, sim, callback)
    assert len(sim.billed()) == 1


@pytest.mark.ids("X7", "D8", "B33")
def test_the_same_question_again_and_again_is_a_loop_and_different_ones_are_not(sim: Simulator) -> None:
    tracker = CostTracker()
    llm = model(sim, LangChainCostCallback(tracker, agent_id="a"))
    llm.batch(["question %d" % n for n in range(16)])
    with pytest.raises(LoopDetected):
        for _ in range(10):
            llm.invoke("the same question")
    assert tracker.call_count == 21


def result(llm_output: Any = None, message: Any = None) -> Any:
    generation = Generation(text="x") if message is None else ChatGeneration(message=message)
    return LLMResult(generations=[[generation]], llm_output=llm_output)


@pytest.mark.ids("B24", "B6")
def test_usage_is_read_from_whatever_a_model_gives() -> None:
    from aicostguard.guard.langchain import usage_of

    old = result({"token_usage": {"prompt_tokens": 1000, "completion_tokens": 100}, "model_name": "gpt-4o"})
    found = usage_of(old, None)
    assert (found.model, found.input_tokens, found.output_tokens) == ("gpt-4o", 1000, 100)
    details = {"cache_read": 400, "cache_creation": 300, "ephemeral_1h_input_tokens": 0}
    metadata: Any = {"input_tokens": 1000, "output_tokens": 9, "total_tokens": 1009, "input_token_details": details}
    message = AIMessage("x", usage_metadata=metadata, response_metadata={"model_name": "claude-sonnet-4-20250514"})
    found = usage_of(result(None, message), "asked")
    assert (found.model, found.input_tokens, found.cached_tokens) == ("claude-sonnet-4-20250514", 1000, 400)
    assert found.more == {"cache_creation_input_tokens": 300}
    nothing = usage_of(result(None, AIMessage("x")), "gpt-4o")
    assert nothing.model == "gpt-4o" and nothing.more == {"usage_missing": True}


@pytest.mark.ids("B1", "B24")
def test_an_answer_that_is_told_twice_counts_once() -> None:
    tracker = CostTracker()
    callback = LangChainCostCallback(tracker)
    answer = result({"token_usage": {"prompt_tokens": 10, "completion_tokens": 1}, "model_name": "gpt-4o"})
    for _ in range(2):
        callback.on_llm_end(answer, run_id=1)
    assert tracker.call_count == 1


@pytest.mark.ids("A8")
def test_a_fault_of_ours_stays_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    from aicostguard import health
    from aicostguard.guard import langchain as module

    monkeypatch.setattr(module.health, "fault", lambda where, error: faults.append(where))
    faults: Any = []
    callback = LangChainCostCallback(CostTracker())
    callback.on_llm_end("no result", run_id=1)
    assert faults == ["guard.langchain"] and health is not None
