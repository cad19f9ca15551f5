"""Agent frameworks: OpenAI Agents, pydantic-ai, Google ADK, CrewAI; their agents are labels, too."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.matrix.case import CLAUDE, LOOP, Url, adrain, case, environment
from tests.matrix.families.frameworks import USED


def pydantic_ai_openai(url: Url, mode: str) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    return Agent(
        OpenAIChatModel("gpt-4o", provider=OpenAIProvider(base_url=url("openai") + "/v1", api_key="x")), name="agent"
    )


def pydantic_ai_anthropic(url: Url, mode: str) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    return Agent(
        AnthropicModel(CLAUDE, provider=AnthropicProvider(base_url=url("anthropic"), api_key="x")), name="agent"
    )


def pydantic_ai_google(url: Url, mode: str) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.models.google import GoogleModel
    from pydantic_ai.providers.google import GoogleProvider

    return Agent(
        GoogleModel("gemini-2.5-flash", provider=GoogleProvider(base_url=url("google"), api_key="x")), name="agent"
    )


def pydantic_ai_call(agent: Any, mode: str) -> Any:
    if mode == "sync":
        return agent.run_sync("hi").output

    async def run() -> Any:
        if mode == "async":
            return (await agent.run("hi")).output
        async with agent.run_stream("hi") as result:
            return await adrain(result.stream_text())

    return LOOP.run_until_complete(run())


case("pydantic-ai.openai", pydantic_ai_openai, USED, "pydantic_ai")(pydantic_ai_call)

case("pydantic-ai.anthropic", pydantic_ai_anthropic, USED, "pydantic_ai")(pydantic_ai_call)

case("pydantic-ai.google", pydantic_ai_google, USED, "pydantic_ai")(pydantic_ai_call)

case("pydantic-ai.named", pydantic_ai_openai, USED, "pydantic_ai", (("agent", ""),))(pydantic_ai_call)


def pydantic_ai_socket(url: Url, mode: str) -> Any:
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    settings: Any = {"openai_transport": "websocket"}
    provider = OpenAIProvider(base_url=url("openai") + "/v1", api_key="x")
    return Agent(OpenAIResponsesModel("gpt-5", provider=provider, settings=settings), name="agent")


@case("pydantic-ai.responses_ws", pydantic_ai_socket, ("async",), "pydantic_ai", (("agent", ""),))
def pydantic_ai_socket_call(agent: Any, mode: str) -> Any:
    """One socket: a run alone, and three at once; those that find no room on it go over HTTP."""

    async def run() -> Any:
        async with agent:
            seen = [(await agent.run("hi")).output]
            return seen + [each.output for each in await asyncio.gather(*(agent.run("hi") for _ in range(3)))]

    return LOOP.run_until_complete(run())


def pydantic_ai_team(url: Url, mode: str) -> Any:
    """An agent whose tool asks another one; the outer one makes no call itself."""
    from pydantic_ai import Agent
    from pydantic_ai.models.test import TestModel

    outer, inner = Agent(TestModel(), name="outer"), pydantic_ai_openai(url, mode)
    inner.name = "inner"

    @outer.tool_plain
    async def run() -> str:
        return str((await inner.run("hi")).output)

    return outer


@case("pydantic-ai.team", pydantic_ai_team, ("sync", "async", "astream"), "pydantic_ai", (("inner", "outer"),))
def pydantic_ai_team_call(agent: Any, mode: str) -> Any:
    return pydantic_ai_call(agent, mode)


def openai_agent(url: Url, mode: str) -> Any:
    from agents import Agent, OpenAIChatCompletionsModel, set_tracing_disabled
    from openai import AsyncOpenAI

    set_tracing_disabled(True)
    client = AsyncOpenAI(base_url=url("openai") + "/v1", api_key="x", max_retries=0)
    return Agent(name="helper", model=OpenAIChatCompletionsModel("gpt-4o", client))


@case("openai-agents", openai_agent, USED, "agents", (("helper", ""),))
def openai_agents(agent: Any, mode: str) -> Any:
    from agents import ModelSettings, RunConfig, Runner

    config = RunConfig(model_settings=ModelSettings(include_usage=True))
    if mode == "sync":
        return Runner.run_sync(agent, "hi", run_config=config).final_output

    async def run() -> Any:
        if mode == "async":
            return (await Runner.run(agent, "hi", run_config=config)).final_output
        result = Runner.run_streamed(agent, "hi", run_config=config)
        return [[event.type for event in await adrain(result.stream_events())], result.final_output]

    return LOOP.run_until_complete(run())


@case("openai-agents.gather", openai_agent, ("async",), "agents")
def openai_agents_gather(agent: Any, mode: str) -> Any:
    from agents import Runner

    async def run() -> Any:
        return [result.final_output for result in await asyncio.gather(*(Runner.run(agent, "hi") for _ in range(5)))]

    return LOOP.run_until_complete(run())


def openai_agents_team(url: Url, mode: str) -> Any:
    """A triage agent hands over to a writer, who asks a checker for help: in their first turns, without a call."""
    from agents import Agent, Model, ModelResponse, Usage
    from openai.types.responses import ResponseFunctionToolCall

    class Calls(Model):
        """Calls a tool with its first answer, and asks the real model after that."""

        def __init__(self, tool: str, model: Any) -> None:
            self.tool, self.model = tool, model

        async def get_response(self, *args: Any, **kwargs: Any) -> Any:
            tool, self.tool = self.tool, ""
            if not tool:
                return await self.model.get_response(*args, **kwargs)
            call = ResponseFunctionToolCall(
                name=tool, arguments='{"input": "hi"}', call_id="call_" + tool, type="function_call"
            )
            return ModelResponse(output=[call], usage=Usage(), response_id=None)

        def stream_response(self, *args: Any, **kwargs: Any) -> Any:
            raise NotImplementedError

    checker = openai_agent(url, mode)
    checker.name = "You check facts. Secret: 4711"
    tools = [checker.as_tool("check", "checks")]
    writer = Agent(name="writer", model=Calls("check", checker.model), tools=tools)
    return Agent(name="triage", model=Calls("transfer_to_writer", checker.model), handoffs=[writer])


_TEAM = (("replaced-3c296d2b5f", "writer"), ("writer", "triage"))


@case("openai-agents.team", openai_agents_team, ("async",), "agents", _TEAM)
def openai_agents_team_call(triage: Any, mode: str) -> Any:
    from agents import Runner

    async def run() -> Any:
        return (await Runner.run(triage, "hi")).final_output

    return LOOP.run_until_complete(run())


def google_adk_agents(url: Url, mode: str) -> Any:
    import os

    os.environ.update(GOOGLE_API_KEY="x", GOOGLE_GEMINI_BASE_URL=url("google"))
    from google.adk.agents import LlmAgent, SequentialAgent

    names = ("one", "two")
    agents = [LlmAgent(name=name, model="gemini-2.5-flash", instruction="answer") for name in names]
    return SequentialAgent(name="both", sub_agents=agents)


@case("google-adk", google_adk_agents, ("async",), "google.adk.agents", (("one", "both"), ("two", "both")))
def google_adk(agent: Any, mode: str) -> Any:
    from google.adk.runners import InMemoryRunner
    from google.genai import types

    asked = types.Content(role="user", parts=[types.Part(text="hi")])

    async def run() -> Any:
        runner = InMemoryRunner(agent=agent, app_name="app")
        session = await runner.session_service.create_session(app_name="app", user_id="u")
        events = runner.run_async(user_id="u", session_id=session.id, new_message=asked)
        return [(event.author, event.content.parts[0].text) async for event in events]

    return LOOP.run_until_complete(run())


def crewai_crew(url: Url, mode: str, parallel: bool = False) -> Any:
    import os

    os.environ.update(CREWAI_DISABLE_TELEMETRY="true", OTEL_SDK_DISABLED="true", CREWAI_TRACING_ENABLED="false")
    from crewai import LLM, Agent, Crew, Task

    llm = LLM(model="openai/gpt-4o", base_url=url("openai") + "/v1", api_key="x")
    agent = Agent(role="helper", goal="answer", backstory="none", llm=llm)
    task = Task(description="say hi", expected_output="hi", agent=agent, async_execution=parallel)
    return Crew(agents=[agent], tasks=[task])


@case("crewai", crewai_crew, ("sync", "async"), agents=(("helper", ""),))
def crewai_call(crew: Any, mode: str) -> Any:
    if mode == "sync":
        return str(crew.kickoff())

    async def run() -> Any:
        return str(await crew.kickoff_async())

    return LOOP.run_until_complete(run())


@case("crewai.async_task", lambda url, mode: crewai_crew(url, mode, parallel=True), ("sync",))
def crewai_async_task(crew: Any, mode: str) -> Any:
    return str(crew.kickoff())


_PYDANTIC_AI = ("pydantic-ai.openai", "pydantic-ai.anthropic", "pydantic-ai.google")
_PYDANTIC_AI += ("pydantic-ai.named", "pydantic-ai.team")
environment("pydantic-ai-2.62.0", ("pydantic-ai-slim[openai,anthropic,google]==2.62.0",), _PYDANTIC_AI)
environment(
    "pydantic-ai-2.68.0",
    ("pydantic-ai-slim[openai,openai-realtime,anthropic,google]==2.68.0",),
    (*_PYDANTIC_AI, "pydantic-ai.responses_ws"),
)

environment(
    "openai-agents-0.24.0", ("openai-agents==0.24.0",), ("openai-agents", "openai-agents.gather", "openai-agents.team")
)

environment("google-adk-2", ("google-adk>=2",), ("google-adk",))

environment("crewai-1.15.30", ("crewai==1.15.30",), ("crewai", "crewai.async_task"))
