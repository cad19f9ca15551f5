"""More agent frameworks, whose agents are labels by their names: one row each in `capture/frameworks/named.py`."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.matrix.case import CLAUDE, LOOP, Url, adrain, case, environment
from tests.matrix.families.frameworks import USED, autogen_client


def agno_agent(url: Url, mode: str, **more: Any) -> Any:
    from agno.agent import Agent
    from agno.models.openai import OpenAIChat

    model = OpenAIChat(id="gpt-4o", base_url=url("openai") + "/v1", api_key="x")
    return Agent(**{"name": "helper", "model": model, "telemetry": False, **more})


@case("agno", agno_agent, agents=(("helper", ""),))
def agno_call(agent: Any, mode: str) -> Any:
    if mode == "sync":
        return agent.run("hi").content
    if mode == "stream":
        return [event.content for event in agent.run("hi", stream=True)]

    async def run() -> Any:
        if mode == "async":
            return (await agent.arun("hi")).content
        return [event.content for event in await adrain(agent.arun("hi", stream=True))]

    return LOOP.run_until_complete(run())


def agno_team(url: Url, mode: str) -> Any:
    """A team whose own model is asked once; its member asks nobody."""
    from agno.team import Team

    member = agno_agent(url, mode)
    return Team(name="crew", members=[member], model=member.model, telemetry=False)


@case("agno.team", agno_team, ("sync", "async"), agents=(("crew", ""),))
def agno_team_call(team: Any, mode: str) -> Any:
    return (team.run("hi") if mode == "sync" else LOOP.run_until_complete(team.arun("hi"))).content


def strands_agent(url: Url, mode: str, **more: Any) -> Any:
    from strands import Agent
    from strands.models.openai import OpenAIModel

    model = OpenAIModel(client_args={"base_url": url("openai") + "/v1", "api_key": "x"}, model_id="gpt-4o")
    return Agent(**{"name": "helper", "model": model, "callback_handler": None, **more})


def strands_anthropic(url: Url, mode: str) -> Any:
    from strands.models.anthropic import AnthropicModel

    model = AnthropicModel(client_args={"base_url": url("anthropic"), "api_key": "x"}, model_id=CLAUDE, max_tokens=50)
    return strands_agent(url, mode, model=model)


def strands_call(agent: Any, mode: str) -> Any:
    if mode == "sync":
        return str(agent("hi"))

    async def run() -> Any:
        if mode == "async":
            return str(await agent.invoke_async("hi"))
        return [event["data"] for event in await adrain(agent.stream_async("hi")) if "data" in event]

    return LOOP.run_until_complete(run())


case("strands.openai", strands_agent, USED, "strands", (("helper", ""),))(strands_call)

case("strands.anthropic", strands_anthropic, USED, "strands", (("helper", ""),))(strands_call)


def strands_pair(url: Url, mode: str) -> Any:
    """A graph of two, one after the other, in tasks of its own."""
    from strands.multiagent import GraphBuilder

    builder = GraphBuilder()
    for name in ("one", "two"):
        builder.add_node(strands_agent(url, mode, name=name), name)
    builder.add_edge("one", "two")
    builder.set_entry_point("one")
    builder.set_max_node_executions(4)
    return builder.build()


@case("strands.graph", strands_pair, ("sync", "async"), "strands", (("one", ""), ("two", "")))
def strands_graph(graph: Any, mode: str) -> Any:
    done = graph("hi") if mode == "sync" else LOOP.run_until_complete(graph.invoke_async("hi"))
    return [str(done.results[name].result) for name in ("one", "two")]


def framework_agent(url: Url, mode: str) -> Any:
    from agent_framework import Agent
    from agent_framework.openai import OpenAIChatCompletionClient

    client = OpenAIChatCompletionClient(model="gpt-4o", base_url=url("openai") + "/v1", api_key="x")
    return Agent(client, name="helper", instructions="answer")


@case("agent-framework", framework_agent, ("async", "astream"), "agent_framework", (("helper", ""),))
def agent_framework(agent: Any, mode: str) -> Any:
    async def run() -> Any:
        if mode == "async":
            return (await agent.run("hi")).text
        return [update.text for update in await adrain(agent.run("hi", stream=True))]

    return LOOP.run_until_complete(run())


def autogen_agent(url: Url, mode: str) -> Any:
    from autogen_agentchat.agents import AssistantAgent

    return AssistantAgent("helper", model_client=autogen_client(url, mode))


@case("autogen.agent", autogen_agent, ("async", "astream"), "autogen_agentchat.agents", (("helper", ""),))
def autogen_agent_call(agent: Any, mode: str) -> Any:
    async def run() -> Any:
        if mode == "async":
            return [message.content for message in (await agent.run(task="hi")).messages]
        return [type(message).__name__ for message in await adrain(agent.run_stream(task="hi"))]

    return asyncio.run(run())


def autogen_team(url: Url, mode: str) -> Any:
    """Two that take turns; the group itself asks nobody."""
    from autogen_agentchat.agents import AssistantAgent
    from autogen_agentchat.conditions import MaxMessageTermination
    from autogen_agentchat.teams import RoundRobinGroupChat

    pair = [AssistantAgent(name, model_client=autogen_client(url, mode)) for name in ("one", "two")]
    return RoundRobinGroupChat(pair, termination_condition=MaxMessageTermination(3))  # type: ignore[arg-type]


@case("autogen.team", autogen_team, ("async",), "autogen_agentchat.agents", (("one", ""), ("two", "")))
def autogen_team_call(team: Any, mode: str) -> Any:
    async def run() -> Any:
        return [message.content for message in (await team.run(task="hi")).messages]

    return asyncio.run(run())


def smolagents_agent(url: Url, mode: str) -> Any:
    from smolagents import CodeAgent, LogLevel, OpenAIServerModel

    model = OpenAIServerModel("gpt-4o", api_base=url("openai") + "/v1", api_key="x")
    # Whatever is answered is no code: one step, and a last question for an answer.
    return CodeAgent(tools=[], model=model, name="helper", max_steps=1, verbosity_level=LogLevel.OFF)


@case("smolagents.agent", smolagents_agent, ("sync", "stream"), "smolagents", (("helper", ""),))
def smolagents_agent_call(agent: Any, mode: str) -> Any:
    if mode == "sync":
        return str(agent.run("hi"))
    return [type(step).__name__ for step in agent.run("hi", stream=True)]


def kernel_agent(url: Url, mode: str, **more: Any) -> Any:
    from openai import AsyncOpenAI
    from semantic_kernel.agents import ChatCompletionAgent
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion

    client = AsyncOpenAI(base_url=url("openai") + "/v1", api_key="x", max_retries=0)
    return ChatCompletionAgent(service=OpenAIChatCompletion("gpt-4o", async_client=client), **more)


def kernel_named(url: Url, mode: str) -> Any:
    return kernel_agent(url, mode, name="helper")


@case("semantic-kernel.agent", kernel_named, ("async", "astream"), "semantic_kernel.agents", (("helper", ""),))
def kernel_agent_call(agent: Any, mode: str) -> Any:
    async def run() -> Any:
        if mode == "async":
            return str(await agent.get_response("hi"))
        return [str(each.content) for each in await adrain(agent.invoke("hi"))]

    return LOOP.run_until_complete(run())


@case("semantic-kernel.nameless", kernel_agent, ("async",), "semantic_kernel.agents", (("", ""),))
def kernel_nameless(agent: Any, mode: str) -> Any:
    async def run() -> Any:
        return str(await agent.get_response("hi"))

    return LOOP.run_until_complete(run())


environment("agno-3.1.10", ("agno==3.1.10", "openai==3.57.0"), ("agno", "agno.team"))

environment(
    "strands-1.62.0",
    ("strands-agents[openai,anthropic]==1.62.0",),
    ("strands.openai", "strands.anthropic", "strands.graph"),
)

environment(
    "agent-framework-1.23.0",
    ("agent-framework-core==1.23.0", "agent-framework-openai==1.17.0"),
    ("agent-framework",),
)
