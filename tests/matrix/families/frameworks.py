"""Frameworks that stand on other SDKs, and run them in tasks and threads of their own.

Each case calls the framework as its user does. What is checked beyond the counts is the feature: the function that
called the framework, or the user's own node or tool, wherever the framework takes the call.
"""

from __future__ import annotations

import asyncio
from typing import Any

from tests.matrix.case import CLAUDE, LOOP, Url, adrain, case, environment, is_async

USED = ("sync", "async", "astream")


def texts(messages: Any) -> Any:
    """What a message says; the rest of it holds ids."""
    return [getattr(message, "content", message) for message in messages]


def langchain_openai_model(url: Url, mode: str, **more: Any) -> Any:
    from langchain_openai import ChatOpenAI

    return ChatOpenAI(model="gpt-4o", base_url=url("openai") + "/v1", api_key="x", max_retries=0, **more)


def langchain_anthropic_model(url: Url, mode: str) -> Any:
    from langchain_anthropic import ChatAnthropic

    return ChatAnthropic(model=CLAUDE, base_url=url("anthropic"), api_key="x", max_retries=0, max_tokens=50)  # type: ignore[call-arg]


def langchain_google_model(url: Url, mode: str) -> Any:
    from langchain_google_genai import ChatGoogleGenerativeAI

    return ChatGoogleGenerativeAI(model="gemini-2.5-flash", google_api_key="x", base_url=url("google"), max_retries=1)


def langchain_call(model: Any, mode: str) -> Any:
    if mode == "sync":
        return texts([model.invoke("hi")])
    if mode == "stream":
        return texts(list(model.stream("hi")))

    async def run() -> Any:
        return texts(await adrain(model.astream("hi"))) if mode == "astream" else texts([await model.ainvoke("hi")])

    return LOOP.run_until_complete(run())


case(
    "langchain-openai",
    lambda url, mode: langchain_openai_model(url, mode, stream_usage=True),
    imports="langchain_openai",
)(langchain_call)
case("langchain-anthropic", langchain_anthropic_model, imports="langchain_anthropic")(langchain_call)
case("langchain-google-genai", langchain_google_model, imports="langchain_google_genai")(langchain_call)


@case("langchain-openai.default_stream", langchain_openai_model, ("stream",), "langchain_openai", silent=True)
def langchain_openai_default_stream(model: Any, mode: str) -> Any:
    return texts(list(model.stream("hi")))


@case("langchain-openai.batch", langchain_openai_model, ("sync", "async"), "langchain_openai")
def langchain_openai_batch(model: Any, mode: str) -> Any:
    """Five at once, in threads or in tasks: five receipts."""
    asked = ["hi"] * 5
    return texts(LOOP.run_until_complete(model.abatch(asked)) if is_async(mode) else model.batch(asked))


@case("langchain-openai.gather", langchain_openai_model, ("async",), "langchain_openai")
def langchain_openai_gather(model: Any, mode: str) -> Any:
    async def run() -> Any:
        return texts(await asyncio.gather(*(model.ainvoke("hi") for _ in range(5))))

    return LOOP.run_until_complete(run())


@case("langchain-openai.cached", langchain_openai_model, ("sync", "async"), "langchain_openai")
def langchain_openai_cached(model: Any, mode: str) -> Any:
    """The second call comes from the framework's own cache: nothing is sent, nothing is billed."""
    from langchain_core.caches import InMemoryCache

    model.cache = InMemoryCache()

    async def run() -> Any:
        return texts([await model.ainvoke("hi"), await model.ainvoke("hi")])

    return LOOP.run_until_complete(run()) if is_async(mode) else texts([model.invoke("hi"), model.invoke("hi")])


def langchain_agent(url: Url, mode: str) -> Any:
    from langchain.agents import create_agent

    return create_agent(langchain_openai_model(url, mode), tools=[], name="helper")


@case("langchain.agent", langchain_agent, ("sync", "async"), agents=(("helper", ""),))
def langchain_agent_call(agent: Any, mode: str) -> Any:
    asked = {"messages": [{"role": "user", "content": "hi"}]}
    return texts((LOOP.run_until_complete(agent.ainvoke(asked)) if is_async(mode) else agent.invoke(asked))["messages"])


def langgraph_graph(url: Url, mode: str) -> Any:
    from langgraph.graph import END, START, MessagesState, StateGraph

    model = langchain_openai_model(url, mode)

    def run(state: Any) -> Any:  # the user's node, in a thread of the framework's when the graph is awaited
        return {"messages": [model.invoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("ask", run)
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    return graph.compile()


@case("langgraph.node", langgraph_graph, ("sync", "async"), "langgraph.graph", (("ask", ""),))
def langgraph_node(graph: Any, mode: str) -> Any:
    asked = {"messages": [{"role": "user", "content": "hi"}]}
    return texts((LOOP.run_until_complete(graph.ainvoke(asked)) if is_async(mode) else graph.invoke(asked))["messages"])


def langgraph_nested(url: Url, mode: str) -> Any:
    from langgraph.graph import END, START, MessagesState, StateGraph

    graph = StateGraph(MessagesState)
    graph.add_node("research", langgraph_graph(url, mode))
    graph.add_edge(START, "research")
    graph.add_edge("research", END)
    return graph.compile()


@case("langgraph.nested", langgraph_nested, ("sync", "async"), "langgraph.graph", (("ask", "research"),))
def langgraph_nested_call(graph: Any, mode: str) -> Any:
    return langgraph_node(graph, mode)


def llama_index_llm(url: Url, mode: str) -> Any:
    from llama_index.llms.openai import OpenAI

    return OpenAI(
        model="gpt-4o",
        api_base=url("openai") + "/v1",
        api_key="x",
        max_retries=0,
        additional_kwargs={"stream_options": {"include_usage": True}} if "stream" in mode else {},
    )


@case("llama-index-llms-openai", llama_index_llm, imports="llama_index.llms.openai")
def llama_index_call(llm: Any, mode: str) -> Any:
    if mode == "sync":
        return str(llm.complete("hi"))
    if mode == "stream":
        return [str(piece) for piece in llm.stream_complete("hi")]

    async def run() -> Any:
        if mode == "async":
            return str(await llm.acomplete("hi"))
        return [str(piece) for piece in await adrain(await llm.astream_complete("hi"))]

    return LOOP.run_until_complete(run())


def llama_index_embedding(url: Url, mode: str) -> Any:
    from llama_index.embeddings.openai import OpenAIEmbedding

    return OpenAIEmbedding(
        model_name="text-embedding-3-small",
        api_base=url("openai") + "/v1",
        api_key="x",
        max_retries=0,
        embed_batch_size=2,
    )


@case("llama-index-embeddings-openai", llama_index_embedding, ("sync", "async"), "llama_index.embeddings.openai")
def llama_index_embed(model: Any, mode: str) -> Any:
    asked = ["hi"] * 6
    if mode == "sync":
        return len(model.get_text_embedding_batch(asked))
    return len(LOOP.run_until_complete(model.aget_text_embedding_batch(asked)))


def llama_index_pair(url: Url, mode: str) -> Any:
    from llama_index.core.agent.workflow import FunctionAgent, ReActAgent

    llm = llama_index_llm(url, "astream")
    return [FunctionAgent(name="helper", llm=llm, tools=[]), ReActAgent(name="reacting", llm=llm, tools=[])]


@case("llama-index.agents", llama_index_pair, ("async",), "llama_index.core.agent.workflow",
      (("helper", ""), ("reacting", "")))  # fmt: skip
def llama_index_agents(pair: Any, mode: str) -> Any:
    async def run() -> Any:
        return [str(await agent.run("hi")) for agent in pair]

    return LOOP.run_until_complete(run())


def llama_index_team(url: Url, mode: str) -> Any:
    """The outer agent's tool asks the inner one, whose step is the only call."""
    from llama_index.core.agent.workflow import FunctionAgent
    from llama_index.core.base.llms.types import ChatMessage, MessageRole, ToolCallBlock
    from llama_index.core.llms.mock import MockFunctionCallingLLM

    def answers(messages: Any, **more: Any) -> Any:
        if any(message.role == MessageRole.TOOL for message in messages):
            return ChatMessage(role=MessageRole.ASSISTANT, content="done")
        asked = ToolCallBlock(tool_call_id="call_1", tool_name="run", tool_kwargs={"text": "hi"})
        return ChatMessage(role=MessageRole.ASSISTANT, blocks=[asked])

    inner = FunctionAgent(name="inner", llm=llama_index_llm(url, "astream"), tools=[])

    async def run(text: str) -> str:
        """Asks another agent."""
        return str(await inner.run(text))

    return FunctionAgent(name="outer", llm=MockFunctionCallingLLM(response_generator=answers), tools=[run])


@case("llama-index.team", llama_index_team, ("async",), "llama_index.core.agent.workflow", (("inner", "outer"),))
def llama_index_team_call(outer: Any, mode: str) -> Any:
    async def run() -> Any:
        return str(await outer.run("hi"))

    return LOOP.run_until_complete(run())


def haystack_generator(url: Url, mode: str) -> Any:
    from haystack.components.generators.chat import OpenAIChatGenerator
    from haystack.utils import Secret

    return OpenAIChatGenerator(
        model="gpt-4o", api_key=Secret.from_token("x"), api_base_url=url("openai") + "/v1", max_retries=0
    )


@case("haystack-ai", haystack_generator, ("sync", "async", "stream"), "haystack.components.generators.chat")
def haystack_call(generator: Any, mode: str) -> Any:
    from haystack.dataclasses import ChatMessage

    asked = [ChatMessage.from_user("hi")]
    if mode == "sync":
        return generator.run(asked)["replies"][0].text
    if mode == "async":
        return LOOP.run_until_complete(generator.run_async(asked))["replies"][0].text
    pieces: Any = []
    given = {"stream_options": {"include_usage": True}}
    generator.run(asked, streaming_callback=lambda piece: pieces.append(piece.content), generation_kwargs=given)
    return pieces


def haystack_pipeline(url: Url, mode: str) -> Any:
    import haystack

    inner = haystack_generator(url, mode)

    @haystack.component
    class Plain:
        """A component without `run_async`: a pipeline that is awaited runs it in a thread."""

        @haystack.component.output_types(replies=list)
        def run(self, asked: list) -> Any:  # type: ignore[type-arg]
            return inner.run(asked)

    pipeline = haystack.AsyncPipeline() if hasattr(haystack, "AsyncPipeline") else haystack.Pipeline()
    pipeline.add_component("plain", Plain())
    return pipeline


@case("haystack-ai.async_pipeline", haystack_pipeline, ("sync", "async"), "haystack")
def haystack_async_pipeline(pipeline: Any, mode: str) -> Any:
    from haystack.dataclasses import ChatMessage

    given = {"plain": {"asked": [ChatMessage.from_user("hi")]}}
    done = LOOP.run_until_complete(pipeline.run_async(given)) if is_async(mode) else pipeline.run(given)
    return done["plain"]["replies"][0].text


def autogen_client(url: Url, mode: str) -> Any:
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    return OpenAIChatCompletionClient(model="gpt-4o", base_url=url("openai") + "/v1", api_key="x", max_retries=0)


@case("autogen-ext.openai", autogen_client, ("async", "astream"), "autogen_ext.models.openai")
def autogen_ext_openai(client: Any, mode: str) -> Any:
    from autogen_core.models import UserMessage

    asked = [UserMessage(content="hi", source="user")]

    async def run() -> Any:
        if mode == "async":
            return (await client.create(asked)).content
        events = await adrain(client.create_stream(asked, include_usage=True))
        return [getattr(event, "content", event) for event in events]

    return LOOP.run_until_complete(run())


@case("autogen-agentchat", autogen_client, ("async",), "autogen_agentchat.agents")
def autogen_agentchat(client: Any, mode: str) -> Any:
    from autogen_agentchat.agents import AssistantAgent
    from autogen_agentchat.teams import RoundRobinGroupChat

    async def run() -> Any:
        alone = await AssistantAgent("helper", client).run(task="hi")
        team = await RoundRobinGroupChat(
            [AssistantAgent("one", client), AssistantAgent("two", client)], max_turns=2
        ).run(task="hi")
        return texts([*alone.messages, *team.messages])

    return LOOP.run_until_complete(run())


def semantic_kernel(url: Url, mode: str) -> Any:
    from openai import AsyncOpenAI
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatCompletion

    client = AsyncOpenAI(base_url=url("openai") + "/v1", api_key="x", max_retries=0)
    return OpenAIChatCompletion(ai_model_id="gpt-4o", async_client=client)


@case("semantic-kernel", semantic_kernel, ("async", "astream"), "semantic_kernel.connectors.ai.open_ai")
def semantic_kernel_call(service: Any, mode: str) -> Any:
    from semantic_kernel.connectors.ai.open_ai import OpenAIChatPromptExecutionSettings
    from semantic_kernel.contents import ChatHistory

    async def run() -> Any:
        history, settings = ChatHistory(), OpenAIChatPromptExecutionSettings()
        history.add_user_message("hi")
        if mode == "async":
            return str(await service.get_chat_message_content(history, settings))
        return [str(piece) for piece in await adrain(service.get_streaming_chat_message_content(history, settings))]

    return LOOP.run_until_complete(run())


def smolagents_model(url: Url, mode: str) -> Any:
    from smolagents import OpenAIServerModel

    return OpenAIServerModel("gpt-4o", api_base=url("openai") + "/v1", api_key="x")


def smolagents_litellm_model(url: Url, mode: str) -> Any:
    from smolagents import LiteLLMModel

    return LiteLLMModel("openai/gpt-4o", api_base=url("openai") + "/v1", api_key="x")


def smolagents_call(model: Any, mode: str) -> Any:
    asked = [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]
    if mode == "stream":
        return [piece.content for piece in model.generate_stream(asked)]
    return model.generate(asked).content


case("smolagents", smolagents_model, ("sync", "stream"))(smolagents_call)
case("smolagents.litellm", smolagents_litellm_model, ("sync",))(smolagents_call)


_LANGCHAIN = ("langchain-openai", "langchain-openai.batch", "langchain-openai.default_stream")
_LANGCHAIN += (
    "langchain-openai.gather",
    "langchain-openai.cached",
    "langchain-anthropic",
    "langchain.agent",
    "langgraph.node",
    "langgraph.nested",
)
_LANGCHAIN_PINS = ("langchain==1.4.7", "langgraph==1.2.22", "langchain-openai==1.7.3", "langchain-anthropic==1.7.7")
environment("langchain-1.4.7", _LANGCHAIN_PINS, _LANGCHAIN)
environment("langchain-openai-1.7.4", (*_LANGCHAIN_PINS[:2], "langchain-openai==1.7.4", _LANGCHAIN_PINS[3]), _LANGCHAIN)
environment("langchain-google-genai-4.4.2", ("langchain-google-genai==4.4.2",), ("langchain-google-genai",))
environment(
    "llama-index-0.8.3",
    ("llama-index-llms-openai==0.8.3", "llama-index-embeddings-openai==0.7.0"),
    ("llama-index-llms-openai", "llama-index-embeddings-openai", "llama-index.agents", "llama-index.team"),
)
environment("haystack-ai-3.4.0", ("haystack-ai==3.4.0",), ("haystack-ai", "haystack-ai.async_pipeline"))
environment(
    "autogen-0.7.5",
    ("autogen-agentchat==0.7.5", "autogen-ext[openai]==0.7.5"),
    ("autogen-ext.openai", "autogen-agentchat", "autogen.agent", "autogen.team"),
)
_KERNEL = ("semantic-kernel", "semantic-kernel.agent", "semantic-kernel.nameless")
environment("semantic-kernel-1.45.0", ("semantic-kernel==1.45.0",), _KERNEL)
_SMOLAGENTS = ("smolagents", "smolagents.litellm", "smolagents.agent")
environment("smolagents-1.26.0", ("smolagents[openai,litellm]==1.26.0",), _SMOLAGENTS)
