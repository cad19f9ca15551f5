"""dspy: its own engine, which talks over sockets of its own, and its older one on litellm."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.matrix.case import Url, case, environment


def openai_model(url: Url, mode: str, **more: Any) -> Any:
    import dspy

    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)
    return dspy.LM("openai/gpt-4o", api_base=url("openai") + "/v1", api_key="x", cache=False, num_retries=0, **more)


def anthropic_model(url: Url, mode: str) -> Any:
    import dspy

    base = url("anthropic") + "/v1"
    return dspy.LM("anthropic/claude-sonnet-4-6", api_base=base, api_key="x", cache=False, num_retries=0)


@case("dspy", openai_model, ("sync", "async"))
def dspy_model(model: Any, mode: str) -> Any:
    if mode == "sync":
        return model("hi")

    async def run() -> Any:
        return await model.acall("hi")

    return asyncio.run(run())


case("dspy.anthropic", anthropic_model, ("sync",))(dspy_model)
case("dspy.litellm_engine", lambda url, mode: openai_model(url, mode, engine="litellm"), ("sync", "async"))(dspy_model)


def answering(url: Url, mode: str) -> Any:
    """A module of dspy that takes the model's text as it comes."""
    import dspy

    class Answer(dspy.Module):  # type: ignore[misc, name-defined]
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, question: str) -> Any:
            return self.model(question)

    return Answer(openai_model(url, mode))


@case("dspy.asyncify", answering, ("async",))
def dspy_asyncify(module: Any, mode: str) -> Any:
    import dspy

    async def run() -> Any:
        return await dspy.asyncify(module)(question="hi")

    return asyncio.run(run())


@case("dspy.parallel", answering, ("sync",))
def dspy_parallel(module: Any, mode: str) -> Any:
    import dspy

    examples = [(module, dspy.Example(question=text).with_inputs("question")) for text in ("hi", "hi", "hi")]
    return dspy.Parallel(num_threads=2, disable_progress_bar=True)(examples)


@case("dspy.stream", openai_model, ("astream",))
def dspy_stream(model: Any, mode: str) -> Any:
    import dspy

    class Signature(dspy.Signature):  # type: ignore[misc, name-defined]
        question: str = dspy.InputField()
        answer: str = dspy.OutputField()

    async def run() -> Any:
        listener = dspy.streaming.StreamListener(signature_field_name="answer")
        with dspy.context(lm=model, adapter=dspy.JSONAdapter()):
            stream = dspy.streamify(dspy.Predict(Signature), stream_listeners=[listener])(question="hi")
            try:
                return [type(part).__name__ async for part in stream]
            except Exception as error:  # the simulated text is no JSON; what was asked was billed all the same
                return type(error).__name__

    return asyncio.run(run())


_ALL = (
    "dspy",
    "dspy.anthropic",
    "dspy.litellm_engine",
    "dspy.asyncify",
    "dspy.parallel",
    "dspy.stream",
)
environment("dspy-current", ("dspy==3.4.1", "litellm"), _ALL)
