"""A name leads to its own model's row or to none."""

from __future__ import annotations

from typing import Optional

import pytest

from aicostguard.pricing import PriceBook, default_book, price

NOW = 1_795_348_800_000
SONNET = "claude-sonnet-4-5-20250929-v1:0"


def row(provider: str, model: str) -> Optional[str]:
    found = default_book().find(provider, model)
    return None if found is None else "%s:%s" % found


@pytest.mark.ids("C6")
@pytest.mark.parametrize(
    "provider, model, wanted",
    [
        ("anthropic", "claude-opus-4-5", "anthropic:claude-opus-4-5"),
        ("anthropic", "claude-opus-4-5-20251101", "anthropic:claude-opus-4-5"),
        ("anthropic", "claude-opus-4-20250514", "anthropic:claude-opus-4-0"),
        ("anthropic", "claude-opus-4-9", None),
        ("openai", "o3-pro", "openai:o3-pro"),
        ("openai", "o3-pro-2025-06-10", "openai:o3-pro"),
        ("openai", "o3-turbo", None),
        ("openai", "gpt-4o-audio-preview", "openai:gpt-4o-audio-preview"),
        ("openai", "gpt-4o-audio-preview-2099-01-01", "openai:gpt-4o-audio-preview"),
        ("openai", "gpt-4o-hologram-preview", None),
        ("openai", "gpt-5-nano-x", None),
        ("openai", "gpt-4.1-mini-high", None),
        ("openai", "gpt-4o-2024-05-13", "openai:gpt-4o-2024-05-13"),
        ("openai", "gpt-4o-20240513", "openai:gpt-4o-2024-05-13"),
        ("openai", "gpt-4o-2024-08-06", "openai:gpt-4o"),
        ("google", "gemini-2.5-pro-preview-tts", "google:gemini-2.5-pro-tts"),
        ("google", "gemini-2.5-pro-ultra", None),
        ("bedrock", "amazon.titan-embed-text-v2:0", "aws:amazon.titan-embed-text-v2:0"),
        ("bedrock", "amazon.titan-embed-text-v3:0", None),
    ],
)
def test_prefix_matching_never_crosses_models(provider: str, model: str, wanted: Optional[str]) -> None:
    assert row(provider, model) == wanted


@pytest.mark.ids("C6")
@pytest.mark.parametrize(
    "longer, shorter",
    [("claude-opus-4-5", "claude-opus-4"), ("o3-pro", "o3"), ("gpt-4o-audio-preview", "gpt-4o")],
)
def test_a_longer_name_does_not_take_its_prefix_price_when_it_has_no_row(longer: str, shorter: str) -> None:
    rows = PriceBook(
        {
            "schema": 1,
            "source": "test",
            "version": "1",
            "date": "2026-11-22",
            "books": {
                "openai": {"names": {shorter: shorter}, "models": {shorter: {"prices": [[None, {"input": "1"}]]}}}
            },
        }
    )
    assert rows.find("openai", shorter) == ("openai", shorter)
    assert rows.find("openai", longer) is None
    assert rows.price({"provider": "openai", "model": longer, "input_tokens": 9}, NOW).cost_nanousd is None


@pytest.mark.ids("C5")
@pytest.mark.parametrize(
    "provider, model, wanted",
    [
        # decoration
        ("openai", "GPT-4o", "openai:gpt-4o"),
        ("anthropic", "claude-3-5-sonnet-latest", "anthropic:claude-3-5-sonnet"),
        ("google", "models/gemini-2.5-flash", "google:gemini-2.5-flash"),
        ("google", "gemini-2.0-flash-001", "google:gemini-2.0-flash"),
        ("vertex", "publishers/google/models/gemini-2.5-flash", "google:gemini-2.5-flash"),
        ("vertex", "claude-sonnet-4@20250514", "google:claude-4-sonnet"),
        ("vertex", "claude-opus-4-6@default", "google:claude-opus-4-6"),
        # other hosts
        ("azure", "gpt-4o-2024-08-06", "openai:gpt-4o"),
        ("azure", "text-embedding-3-small", "azure:text-embedding-3-small"),
        ("vercel", "openai/gpt-4o", "openai:gpt-4o"),
        ("vercel", "anthropic/claude-sonnet-4.5", "anthropic:claude-sonnet-4-5"),
        ("vercel", "openai/gpt-oss-120b", None),
        ("vercel", "meta/llama-3.3-70b", None),
        ("openrouter", "openai/gpt-4o", "openrouter:openai/gpt-4o"),
        ("openrouter", "openai/gpt-4o:nitro", None),
        ("groq", "llama-3.3-70b-versatile", "groq:llama-3.3-70b-versatile"),
        ("together", "meta-llama/Llama-3.3-70B-Instruct-Turbo", "together:meta-llama/Llama-3.3-70B-Instruct-Turbo"),
        ("fireworks", "accounts/fireworks/models/kimi-k2p6", "fireworks:kimi-k2p6"),
        ("huggingface", "Qwen/Qwen3-VL-8B-Instruct:together", "huggingface_together:Qwen/Qwen3-VL-8B-Instruct"),
        ("huggingface", "meta-llama/Llama-3.3-70B-Instruct", None),
        ("xai", "grok-4", "x-ai:grok-4-0709"),
        ("voyage", "voyage-3.5", "voyageai:voyage-3.5"),
        # Bedrock: profiles, regions, ARNs
        ("bedrock", "anthropic.claude-3-haiku-20240307-v1:0", "aws:regional.anthropic.claude-3-haiku-20240307-v1:0"),
        # its date in the other spelling
        ("bedrock", "anthropic.claude-opus-4-2025-05-14", "aws:regional.anthropic.claude-opus-4-20250514-v1:0"),
        ("bedrock", "us.anthropic.%s" % SONNET, "aws:regional.anthropic.%s" % SONNET),
        ("bedrock", "global.anthropic.%s" % SONNET, "aws:global.anthropic.%s" % SONNET),
        ("bedrock", "eu.amazon.nova-lite-v1:0", "aws:amazon.nova-lite-v1:0"),
        (
            "bedrock",
            "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.%s" % SONNET,
            "aws:regional.anthropic.%s" % SONNET,
        ),
        # the account's own profile says nothing of the model
        ("bedrock", "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6", None),
        # no European rate is listed for this one
        ("bedrock", "eu.zai.glm-5.3", None),
        # deployments and fine-tunes
        ("azure", "my-team-deployment", None),
        ("openai", "ft:gpt-4o-2024-08-06:acme:support:9abc", "openai:ft:gpt-4o"),
        ("openai", "ft:gpt-4o-mini-2024-07-18:acme::9abc", "openai:ft:gpt-4o-mini"),
        ("openai", "ft:gpt-4-0613:acme::9abc", None),
        ("openai", "ft:gpt-4.1-2025-04-14:acme::9abc", "openai:ft:gpt-4.1"),
        ("openai", "ft:o4-mini-2025-04-16:acme::9abc", "openai:ft:o4-mini"),
        ("openai", "ft:gpt-5-2025-08-07:acme::9abc", None),
        ("azure", "gpt-4o-mini-2024-07-18.ft-0e1f2a3b", "openai:gpt-4o-mini-2024-07-18.ft-"),
        ("azure", "gpt-4o-2024-08-06.ft-0e1f2a3b", None),
    ],
)
def test_decoration_comes_off_and_deployments_profiles_and_fine_tunes_never_get_the_base_price(
    provider: str, model: str, wanted: Optional[str]
) -> None:
    assert row(provider, model) == wanted


@pytest.mark.ids("C5")
def test_a_borrowed_row_has_no_tiers_of_its_owner() -> None:
    ask = {"provider": "azure", "model": "gpt-5", "input_tokens": 10, "output_tokens": 1}
    assert price(ask, NOW).cost_nanousd is not None
    assert price({**ask, "service_tier": "default"}, NOW).cost_nanousd is not None
    assert price({**ask, "service_tier": "priority"}, NOW).reason == "no price for priority at azure"


def test_a_flood_of_names_does_not_grow_the_cache_without_bound() -> None:
    rows = default_book()
    for number in range(9000):
        rows.price({"provider": "openai", "model": "m%d" % number, "input_tokens": 1}, NOW)
    assert len(rows._plans) <= 4096
