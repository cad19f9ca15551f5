"""BAML's runtime, called as the client that BAML generates calls it, with functions that ask the simulated providers.

Needs `baml-py`, which is imported when a `Runtime` is made.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any, Callable, Dict

#: client → BAML's provider, the simulated one, what its base URL ends with, more options
CLIENTS: Dict[str, Any] = {
    "OpenAI": ("openai", "openai", "/v1", {"model": "gpt-4o"}),
    "Responses": ("openai-responses", "openai", "/v1", {"model": "gpt-5"}),
    "Anthropic": ("anthropic", "anthropic", "", {"model": "claude-sonnet-4-6", "max_tokens": 50}),
    "Google": ("google-ai", "google", "/v1beta", {"model": "gemini-2.5-flash"}),
}


def client(name: str, provider: str, **options: Any) -> str:
    """A client, and a function of the same name that uses it."""
    lines = "".join("    %s %s\n" % (key, json.dumps(value)) for key, value in options.items())
    return "client<llm> %s {\n  provider %s\n  options {\n%s  }\n}\n" % (name, provider, lines) + function(name)


def function(name: str, returns: str = "string") -> str:
    return 'function F%s(text: string) -> %s {\n  client %s\n  prompt #"Say {{ text }}"#\n}\n' % (name, returns, name)


def sources(url: Callable[[str], str]) -> str:
    return "".join(
        client(name, provider, base_url=url(simulated) + end, api_key="x", **options)
        for name, (provider, simulated, end, options) in CLIENTS.items()
    ) + client(
        "Bedrock",
        "aws-bedrock",
        model="anthropic.claude-3-5-sonnet-20240620-v1:0",
        endpoint_url=url("bedrock"),
        region="us-east-1",
    )


class Runtime:
    """A runtime, called as the generated client calls it."""

    def __init__(self, source: str) -> None:
        import baml_py

        self.py = baml_py
        self.native = baml_py.BamlRuntime.from_files("/baml_src", {"main.baml": source}, {})
        self.collector = baml_py.Collector("the user's")
        self.env = dict(os.environ, AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", BAML_LOG="off")

    def _given(self, name: str, *more: Any) -> Any:
        context = self.native.create_context_manager()
        return (name, {"text": "hi"}, *more, context, None, None, [self.collector], self.env, {}), context

    def call(self, name: str) -> Any:
        """A result; where it is none, it raises when its value is taken."""
        given, _ = self._given(name)
        return self.native.call_function_sync(*given)

    def begin(self, name: str) -> Any:
        given, _ = self._given(name)
        return self.native.call_function(*given)

    def stream(self, name: str) -> Any:
        given, context = self._given(name, None)
        return self.py.BamlStream(self.native.stream_function(*given), str, str, context)

    def sync_stream(self, name: str) -> Any:
        given, context = self._given(name, None)
        return self.py.BamlSyncStream(self.native.stream_function_sync(*given), str, str, context)

    def ask(self, name: str, mode: str) -> Any:
        if mode == "call":
            return str(self.call(name))

        async def run() -> Any:
            if mode == "await":
                return str(await self.begin(name))
            stream = self.stream(name)
            return [[part async for part in stream][-1:], await stream.get_final_response()]

        return asyncio.run(run())
