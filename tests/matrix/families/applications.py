"""What stands on SDKs that other families call: libraries for prompts and answers, and tools that watch calls.

BAML sends from Rust; a blocking stream of its is not here, because it keeps Python's lock while it reads and the
simulator of a run is in the same process (`tests/capture/test_baml.py` has it).
"""

from __future__ import annotations

import os
from typing import Any

from tests.baml import Runtime, sources
from tests.matrix.case import CLAUDE, HI, LOOP, USAGE, Url, both, case, environment, is_async


def baml(url: Url, mode: str) -> Runtime:
    os.environ["BAML_LOG"] = "off"
    return Runtime(sources(url))


_BAML_MODES = {"sync": "call", "async": "await", "astream": "astream"}


def ask_baml(runtime: Runtime, name: str, mode: str) -> Any:
    """The helper's own methods are the user's code here, and name the feature; what is shown holds times."""
    return "word3" in str(runtime.ask(name, _BAML_MODES[mode]))


@case("baml.openai", baml, tuple(_BAML_MODES), "baml_py")
def baml_openai(runtime: Runtime, mode: str) -> Any:
    return ask_baml(runtime, "FOpenAI", mode)


@case("baml.anthropic", baml, tuple(_BAML_MODES), "baml_py")
def baml_anthropic(runtime: Runtime, mode: str) -> Any:
    return ask_baml(runtime, "FAnthropic", mode)


@case("baml.google", baml, tuple(_BAML_MODES), "baml_py")
def baml_google(runtime: Runtime, mode: str) -> Any:
    return ask_baml(runtime, "FGoogle", mode)


@case("baml.bedrock", baml, tuple(_BAML_MODES), "baml_py")
def baml_bedrock(runtime: Runtime, mode: str) -> Any:
    return ask_baml(runtime, "FBedrock", mode)


def mirascope_ask(url: Url, mode: str) -> Any:
    """A prompt function, as its decorator makes it."""
    os.environ.update(ANTHROPIC_API_KEY="x", ANTHROPIC_BASE_URL=url("anthropic"))
    from mirascope import llm

    decorate: Any = llm.call("anthropic/" + CLAUDE, max_tokens=50)
    if is_async(mode):

        async def aask() -> str:
            return "hi"

        return decorate(aask)

    def ask() -> str:
        return "hi"

    return decorate(ask)


@case("mirascope", mirascope_ask)
def mirascope(ask: Any, mode: str) -> Any:
    if mode == "sync":
        return ask().text()
    if mode == "stream":
        return list(ask.stream().text_stream())

    async def run() -> Any:
        if mode == "async":
            return (await ask()).text()
        return [piece async for piece in (await ask.stream()).text_stream()]

    return LOOP.run_until_complete(run())


def outlines_model(url: Url, mode: str) -> Any:
    import openai
    import outlines

    return outlines.from_openai(openai.OpenAI(base_url=url("openai") + "/v1", api_key="x", max_retries=0), "gpt-4o")


@case("outlines", outlines_model, ("sync",))
def outlines_call(model: Any, mode: str) -> Any:
    return model("hi")


@case("outlines.stream", outlines_model, ("stream",), silent=True)
def outlines_stream(model: Any, mode: str) -> Any:
    """It asks for no usage, and its user cannot."""
    return list(model.stream("hi"))


def guidance_model(url: Url, mode: str) -> Any:
    from guidance import models

    return models.OpenAI("gpt-4o", api_key="x", base_url=url("openai") + "/v1", echo=False)


@case("guidance", guidance_model, ("sync",))
def guidance_call(model: Any, mode: str) -> Any:
    from guidance import assistant, gen, user

    with user():
        model += "hi"
    with assistant():
        model += gen("answer", max_tokens=5)
    return model["answer"]


def llm_model(url: Url, mode: str) -> Any:
    import llm

    model: Any = (llm.get_async_model if is_async(mode) else llm.get_model)("gpt-4o")
    model.key, model.api_base = "x", url("openai") + "/v1"
    return model


@case("llm", llm_model)
def llm_call(model: Any, mode: str) -> Any:
    if mode == "sync":
        return model.prompt("hi", stream=False).text()
    if mode == "stream":
        return list(model.prompt("hi", stream=True))

    async def run() -> Any:
        if mode == "async":
            return await model.prompt("hi", stream=False).text()
        return [piece async for piece in model.prompt("hi", stream=True)]

    return LOOP.run_until_complete(run())


def griptape_agent(url: Url, mode: str) -> Any:
    import logging

    from griptape.drivers.prompt.openai import OpenAiChatPromptDriver
    from griptape.structures import Agent

    logging.getLogger("griptape").setLevel(logging.ERROR)
    driver = OpenAiChatPromptDriver(
        model="gpt-4o", base_url=url("openai") + "/v1", api_key="x", stream=mode == "stream"
    )
    return Agent(prompt_driver=driver)


@case("griptape", griptape_agent, ("sync", "stream"))
def griptape_call(agent: Any, mode: str) -> Any:
    return agent.run("hi").output.value


def deep_agent(url: Url, mode: str) -> Any:
    from deepagents import create_deep_agent
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model="gpt-4o", base_url=url("openai") + "/v1", api_key="x", max_retries=0)
    return create_deep_agent(model=model, tools=[], name="deep")


@case("deepagents", deep_agent, ("sync", "async"), agents=(("deep", ""),))
def deepagents_call(agent: Any, mode: str) -> Any:
    done = (
        LOOP.run_until_complete(agent.ainvoke({"messages": HI})) if mode == "async" else agent.invoke({"messages": HI})
    )
    return [message.content for message in done["messages"]]


def browser_model(url: Url, mode: str) -> Any:
    os.environ.update(ANONYMIZED_TELEMETRY="false", BROWSER_USE_SETUP_LOGGING="false")
    from browser_use.llm import ChatOpenAI

    return ChatOpenAI(model="gpt-4o", base_url=url("openai") + "/v1", api_key="x")


@case("browser-use.llm", browser_model, ("async",), "browser_use")
def browser_use_llm(model: Any, mode: str) -> Any:
    from browser_use.llm.messages import UserMessage

    return LOOP.run_until_complete(model.ainvoke([UserMessage(content="hi")])).completion


def openai_client(url: Url, mode: str) -> Any:
    import openai

    kind = openai.AsyncOpenAI if is_async(mode) else openai.OpenAI
    return kind(base_url=url("openai") + "/v1", api_key="x", max_retries=0)


def langfuse_client(url: Url, mode: str) -> Any:
    os.environ["LANGFUSE_TRACING_ENABLED"] = "false"
    from langfuse.openai import AsyncOpenAI, OpenAI

    return (AsyncOpenAI if is_async(mode) else OpenAI)(base_url=url("openai") + "/v1", api_key="x", max_retries=0)


def braintrust_client(url: Url, mode: str) -> Any:
    import braintrust

    return braintrust.wrap_openai(openai_client(url, mode))


def opik_client(url: Url, mode: str) -> Any:
    os.environ["OPIK_TRACK_DISABLE"] = "true"
    from opik.integrations.openai import track_openai

    return track_openai(openai_client(url, mode))


def portkey_client(url: Url, mode: str) -> Any:
    from portkey_ai import AsyncPortkey, Portkey

    return (AsyncPortkey if is_async(mode) else Portkey)(base_url=url("openai") + "/v1", api_key="x")


def chat(client: Any, mode: str) -> Any:
    return both(client, mode, client.chat.completions.create, USAGE, model="gpt-4o", messages=HI)


case("langfuse.openai", langfuse_client, imports="langfuse")(chat)
case("braintrust", braintrust_client)(chat)
case("opik", opik_client)(chat)
case("portkey", portkey_client, imports="portkey_ai")(chat)

_OPENAI = "openai==3.57.0"
environment(
    "baml-0.226.3", ("baml-py==0.226.3", "pydantic==2.14.4"),
    ("baml.openai", "baml.anthropic", "baml.google", "baml.bedrock"),
)  # fmt: skip
environment("mirascope-2.8.2", ("mirascope[anthropic]==2.8.2",), ("mirascope",))
environment("outlines-1.3.3", ("outlines==1.3.3", _OPENAI), ("outlines", "outlines.stream"))
environment("guidance-0.3.1", ("guidance==0.3.1", _OPENAI), ("guidance",))
environment("llm-0.36", ("llm==0.36",), ("llm",))
environment("griptape-1.13.0", ("griptape[drivers-prompt-openai]==1.13.0",), ("griptape",))
environment("deepagents-0.7.32", ("deepagents==0.7.32", "langchain-openai==1.7.4"), ("deepagents",))
environment("browser-use-0.13.14", ("browser-use==0.13.14",), ("browser-use.llm",))
environment("langfuse-5.2.0", ("langfuse==5.2.0", _OPENAI), ("langfuse.openai",))
environment("braintrust-0.48.1", ("braintrust==0.48.1", _OPENAI), ("braintrust",))
environment("opik-2.2.122", ("opik==2.2.122", "openai==2.54.0"), ("opik",))
environment("portkey-2.3.4", ("portkey-ai==2.3.4",), ("portkey",))
