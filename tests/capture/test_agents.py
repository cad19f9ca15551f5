"""Agents that code declares: names as they are, prose as a hash, an agent in code first, one inside another its child.

The frameworks themselves run in the matrix (`openai-agents.team`, `pydantic-ai.team`, `langgraph.nested`, `google-adk`,
`crewai`); here stands what they share.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from types import ModuleType, SimpleNamespace
from typing import Any, AsyncIterator, Dict, List

import pytest

import aicostguard
from aicostguard import context
from aicostguard.capture.frameworks import agents, langgraph, pydantic_ai
from aicostguard.capture.patch import Hook
from aicostguard.capture.state import state
from aicostguard.health import health

PROSE = "You are a helpful assistant. The password is 4711."


class Worker:
    """An agent of a framework: its methods are put under its name, and tell what is in force."""

    def __init__(self, name: Any) -> None:
        self.name = name

    def plain(self, inner: Any = None) -> Any:
        return inner.plain() if inner is not None else dict(context.current())

    async def awaited(self) -> Any:
        await asyncio.sleep(0)
        return dict(context.current())

    async def streamed(self) -> AsyncIterator[Any]:
        for _ in range(2):
            yield dict(context.current())


HOOK = Hook("frame")
Worker.plain = agents.plain(Worker.plain, HOOK, lambda self, *args: self.name)  # type: ignore[method-assign]
Worker.awaited = agents.coroutine(Worker.awaited, HOOK, lambda self: self.name)  # type: ignore[method-assign]
Worker.streamed = agents.async_generator(Worker.streamed, HOOK, lambda self: self.name)  # type: ignore[method-assign]


def all_ways(worker: Worker) -> List[Dict[str, Any]]:
    async def run() -> Any:
        seen = [await worker.awaited()]
        async for item in worker.streamed():
            seen.append(item)
            assert context.current().get("agent") != "helper"
        return seen

    return [worker.plain(), *asyncio.run(run())]


def test_a_name_is_in_force_around_its_agent_and_nowhere_else() -> None:
    assert all_ways(Worker("helper")) == [{"agent": "helper"}] * 4
    assert context.current() == {}


def test_prose_becomes_a_hash() -> None:
    (first, *others) = all_ways(Worker(PROSE))
    assert first["agent"].startswith("replaced-")
    assert PROSE[:8] not in repr(first)
    assert others == [first] * 3
    before, state.salt = state.salt, "another key"
    assert Worker(PROSE).plain() != first
    state.salt = before


@pytest.mark.parametrize("name", [None, "", 7, ["a"]])
def test_what_is_no_name_adds_nothing(name: Any) -> None:
    assert all_ways(Worker(name)) == [{}] * 4


def test_an_agent_inside_another_has_a_parent_and_itself_is_no_parent() -> None:
    assert Worker("outer").plain(Worker("inner")) == {"agent": "inner", "parent_agent": "outer"}
    assert Worker("outer").plain(Worker("outer")) == {"agent": "outer"}


def test_an_agent_that_is_set_in_code_goes_first() -> None:
    with aicostguard.agent("mine"):
        assert all_ways(Worker("helper")) == [{"agent": "mine"}] * 4
    with aicostguard.labels(user="u"):
        assert Worker("helper").plain() == {"user": "u", "agent": "helper"}


def test_a_parent_may_be_named() -> None:
    hook, run = Hook("frame"), agents.plain(lambda: dict(context.current()), HOOK, lambda: ("writer", PROSE))
    assert hook.on
    found = run()
    assert found["agent"] == "writer"
    assert found["parent_agent"].startswith("replaced-")


@pytest.mark.ids("A8")
def test_a_fault_while_looking_for_the_name_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    faults: List[str] = []
    monkeypatch.setattr(type(health), "fault", lambda self, where, error: faults.append(where))
    run = agents.plain(lambda: "result", HOOK, lambda: 1 // 0)
    assert run() == "result"
    assert faults == ["frame.agent"]


def test_langgraphs_nodes_are_read_and_its_threads_are_not() -> None:
    metadata = {"langgraph_node": "ask", "langgraph_checkpoint_ns": "research:1-2|ask:3-4", "thread_id": PROSE}
    assert langgraph._agent(metadata) == ("ask", "research")
    assert langgraph._agent({**metadata, "lc_agent_name": "helper"}) == ("helper", "research")
    assert langgraph._agent({"thread_id": PROSE}) is None


def test_what_a_framework_keeps_itself_is_read_where_no_agent_is_in_force() -> None:
    state.readers.append(lambda: ("ask", "research"))
    try:
        assert agents.read({"user": "u"}) == {"user": "u", "agent": "ask", "parent_agent": "research"}
        assert agents.read({"agent": "mine"}) == {"agent": "mine"}
        state.readers[0] = lambda: (PROSE, None)
        assert agents.read({})["agent"].startswith("replaced-")
    finally:
        state.readers.clear()


def test_somebodys_own_package_of_the_same_name_is_left_alone() -> None:
    import types

    from aicostguard.capture.frameworks import openai_agents

    openai_agents.install(types.ModuleType("agents.run"), Hook("agents.run"))


class Context:
    """What pydantic-ai hands to a node."""

    class deps:
        class agent:
            name = "helper"


def nodes() -> Any:
    """A module with nodes shaped as pydantic-ai's, which tell what is in force in them."""
    module = ModuleType("pydantic_ai._agent_graph")

    class CallToolsNode:
        async def _run_stream(self, context: Any) -> AsyncIterator[Any]:
            yield dict(current())

    class ModelRequestNode:
        async def run(self, context: Any) -> Any:
            return dict(current())

        @asynccontextmanager
        async def stream(self, context: Any) -> AsyncIterator[Any]:
            seen = [dict(current())]
            try:
                yield seen
            finally:
                await asyncio.sleep(0)
                seen.append(dict(current()))

    class Segments:
        run_context = Context.deps

        async def _get_event_iterator(self) -> AsyncIterator[Any]:
            for _ in range(2):
                yield dict(current())

    module.__dict__.update(CallToolsNode=CallToolsNode, ModelRequestNode=ModelRequestNode)
    module.__dict__["_ContinuationStreamedResponse"] = Segments
    return module


def current() -> Any:
    return context.current()


@pytest.mark.ids("A5", "A23")
def test_pydantic_ais_streamed_requests_are_the_agents_and_what_the_user_does_meanwhile_is_not() -> None:
    module = nodes()
    kind = type(module.ModelRequestNode().stream(Context))
    pydantic_ai.install(module, Hook("pydantic"))
    node = module.ModelRequestNode()
    assert type(node.stream(Context)) is kind

    async def run() -> None:
        assert await node.run(Context) == {"agent": "helper"}
        assert await node.run(SimpleNamespace(deps=None)) == {}
        async with node.stream(Context) as seen:
            assert context.current() == {}
            assert seen == [{"agent": "helper"}]
        assert seen == [{"agent": "helper"}] * 2
        with pytest.raises(KeyError) as caught:
            async with node.stream(Context) as seen:
                raise KeyError("of the user")
        assert str(caught.value) == "'of the user'"
        async for piece in module._ContinuationStreamedResponse()._get_event_iterator():
            assert (piece, context.current()) == ({"agent": "helper"}, {})
        assert (len(seen), context.current()) == (2, {})

    asyncio.run(run())
