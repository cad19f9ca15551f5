"""Rows of the hosts that speak OpenAI's formats and nothing else that bills.

A new one is a row here, with the provider's own page on host and usage, and a fixture in
`tests/metering/fixtures_hosts.py`. Its name is that of its price book, where there is one.
"""

from __future__ import annotations

from typing import Tuple

from aicostguard.metering.provider import OPENAI_FORMATS, Provider

_WITH_MESSAGES = (*OPENAI_FORMATS, "messages")

COMPATIBLE: Tuple[Provider, ...] = (
    Provider("arcee", ("api.arcee.ai",), docs="https://docs.arcee.ai/get-started/pricing"),
    Provider(
        "baseten",
        ("inference.baseten.co",),
        formats=_WITH_MESSAGES,
        docs="https://docs.baseten.co/inference/model-apis/overview",
    ),
    Provider("deepinfra", ("api.deepinfra.com",), docs="https://deepinfra.com/docs/advanced/openai_api"),
    Provider(
        "github",
        ("models.github.ai", "models.inference.ai.azure.com"),
        formats=("chat", "embeddings"),
        docs="https://docs.github.com/en/rest/models/inference",
    ),
    Provider("jina", ("api.jina.ai",), formats=("chat", "embeddings", "rerank"), docs="https://docs.jina.ai/"),
    Provider(
        "minimax",
        ("api.minimax.io", "api.minimaxi.com"),
        formats=_WITH_MESSAGES,
        docs="https://platform.minimax.io/docs/pricing/overview",
    ),
    # `cached_tokens` of the usage is a part of `prompt_tokens`.
    Provider(
        "moonshotai",
        ("api.moonshot.ai", "api.moonshot.cn"),
        formats=_WITH_MESSAGES,
        docs="https://platform.kimi.ai/docs/pricing/chat.md",
    ),
    Provider(
        "nebius",
        ("api.tokenfactory.nebius.com", "api.studio.nebius.com", "api.studio.nebius.ai"),
        docs="https://docs.tokenfactory.nebius.com/api-reference/introduction",
    ),
    Provider("novita", ("api.novita.ai",), docs="https://novita.ai/docs/guides/introduction"),
    Provider("nvidia", ("integrate.api.nvidia.com",), docs="https://docs.api.nvidia.com/nim/reference/"),
    Provider(
        "ovhcloud",
        ("oai.endpoints.kepler.ai.cloud.ovh.net",),
        docs="https://oai.endpoints.kepler.ai.cloud.ovh.net/v1/models",
    ),
    Provider(
        "sambanova",
        ("api.sambanova.ai",),
        formats=_WITH_MESSAGES,
        docs="https://docs.sambanova.ai/docs/en/features/anthropic-compatibility",
    ),
)
