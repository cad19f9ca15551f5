"""Which versions are run: one environment each, with what it installs and the cases it serves."""

from __future__ import annotations

from typing import Dict, NamedTuple, Tuple


class Environment(NamedTuple):
    """`install` are requirements; `cases` names of `cases.CASES`; `python` the lowest CPython it needs."""

    install: Tuple[str, ...]
    cases: Tuple[str, ...]


_CHAT = ("openai.chat", "openai.azure", "openai.custom_http_client", "openai.embeddings", "openai.completions")
_CHAT += ("openai.raw_response",)
_NEWER = (*_CHAT, "openai.responses", "openai.stream_helpers", "openai.aiohttp")
_MESSAGES = ("anthropic.messages", "anthropic.stream_helper")
_MORE = (*_MESSAGES, "anthropic.aiohttp", "anthropic.vertex", "anthropic.bedrock")

ENVIRONMENTS: Dict[str, Environment] = {
    "openai-1.30.5": Environment(("openai==1.30.5", "httpx<0.28"), (*_CHAT, "openai.chat_stream_nousage")),
    "openai-1.109.1": Environment(("openai[aiohttp]==1.109.1",), (*_NEWER, "openai.module_level")),
    "openai-2.54.0": Environment(("openai[aiohttp]==2.54.0",), _NEWER),
    "openai-3.54.0": Environment(
        ("openai[aiohttp]==3.54.0", "httpx"),
        (
            *_NEWER,
            "openai.chat_stream_nousage",
            "openai.custom_transport",
            "openai.legacy_httpx_client",
            "openai.module_level",
            "openai.responses_background",
        ),
    ),
    "anthropic-0.40.0": Environment(("anthropic==0.40.0", "httpx<0.28"), _MESSAGES),
    "anthropic-0.125.0": Environment(("anthropic[aiohttp,vertex,bedrock]==0.125.0",), _MORE),
    "anthropic-1.17.0": Environment(("anthropic[aiohttp,vertex,bedrock]==1.17.0",), _MORE),
    "anthropic-2.12.0": Environment(("anthropic[aiohttp,vertex,bedrock]==2.12.0",), _MORE),
    "google-genai-1.75.0": Environment(("google-genai[aiohttp]==1.75.0",), ("google-genai",)),
    "google-genai-2.34.0": Environment(("google-genai[aiohttp]==2.34.0",), ("google-genai",)),
    "google-genai-3.4.0": Environment(
        ("google-genai==3.4.0", "httpx"),
        ("google-genai", "google-genai.env_httpx", "google-genai.vertex", "google-genai.embed"),
    ),
    "google-genai-3.4.0-aiohttp": Environment(
        ("google-genai[aiohttp]==3.4.0",), ("google-genai", "google-genai.vertex", "google-genai.aiohttp_client")
    ),
    "groq-1.7.0": Environment(("groq==1.7.0",), ("groq",)),
    "together-3.1.1": Environment(("together==3.1.1",), ("together",)),
    "mistralai-1.12.4": Environment(("mistralai==1.12.4",), ("mistralai",)),
    "mistralai-3.7.0": Environment(("mistralai==3.7.0",), ("mistralai",)),
    "cerebras-1.91.0": Environment(("cerebras-cloud-sdk==1.91.0",), ("cerebras",)),
    "perplexityai-0.46.1": Environment(("perplexityai==0.46.1",), ("perplexityai",)),
    "openrouter-1.3.84": Environment(("openrouter==1.3.84",), ("openrouter",)),
    "raw-current": Environment(
        ("httpx", "httpx2", "aiohttp", "requests"), ("raw.httpx", "raw.httpx2", "raw.aiohttp", "raw.requests")
    ),
    "raw-oldest": Environment(
        ("httpx==0.25.2", "aiohttp==3.9.5", "requests==2.28.2", "urllib3==1.26.20"),
        ("raw.httpx", "raw.aiohttp", "raw.requests"),
    ),
}

#: every transport, both generators, the oldest and the newest SDKs; small enough for every test run
REPRESENTATIVE = (
    "openai-1.30.5",
    "openai-3.54.0",
    "anthropic-0.40.0",
    "google-genai-3.4.0-aiohttp",
    "mistralai-3.7.0",
    "raw-oldest",
)
