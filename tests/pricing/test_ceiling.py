"""No request within its bound costs more than the ceiling, over every model of the book."""

from __future__ import annotations

import random
from typing import Any, Dict, List

import pytest

from aicostguard.pricing import PriceBook, default_book
from aicostguard.pricing.rates import TOKEN_KEYS

#: 22 November 2026, 12:00 UTC; half a year before; half a year after
TIMES = (1_795_348_800_000, 1_780_000_000_000, 1_810_000_000_000)
_INPUT_PARTS = (
    "cache_read_input_tokens",
    "cache_creation_input_tokens",
    "cache_creation_1h_input_tokens",
    "input_audio_tokens",
    "cache_read_audio_tokens",
    "input_image_tokens",
    "input_video_tokens",
)
_OUTPUT_PARTS = ("reasoning_output_tokens", "output_audio_tokens", "output_image_tokens")


def usage(seed: random.Random, most_in: int, most_out: int) -> Dict[str, int]:
    whole = seed.choice((0, 1, most_in // 3, most_in - 1, most_in, seed.randrange(most_in + 1)))
    out = seed.choice((0, most_out, seed.randrange(most_out + 1)))
    counts = {"input_tokens": max(0, whole), "output_tokens": out}
    for parts, total in ((_INPUT_PARTS, counts["input_tokens"]), (_OUTPUT_PARTS, out)):
        for key in seed.sample(parts, seed.randrange(0, 3)):
            counts[key] = seed.choice((total, seed.randrange(total + 1)))
    hour = counts.get("cache_creation_1h_input_tokens")
    if hour is not None:  # a part of what was written
        counts["cache_creation_input_tokens"] = max(hour, counts.get("cache_creation_input_tokens", 0))
    return counts


def test_a_price_is_never_above_the_ceiling_of_its_bound() -> None:
    seed = random.Random(20261129)
    book = default_book()
    asked = priced = tight = 0
    known = [(name, model) for name, content in book._books.items() for model in content["models"]]
    for provider, model in known:
        data = book._books[provider]["models"][model]
        tiers: List[Dict[str, Any]] = [{}]
        for context, _, _ in data.get("variants", ()):
            if context.get("processing") == "batch":
                tiers.append({"operation": "batch"})
            elif "service_tier" in context:
                tiers.append({"service_tier": context["service_tier"]})
        for _ in range(6):
            facts = dict(seed.choice(tiers))
            if provider == "anthropic" and seed.random() < 0.5:
                facts["region"] = "us"
            at = seed.choice(TIMES)
            most_in, most_out = seed.choice((1, 100, 200_000, 272_001, 1_000_000)), seed.choice((0, 1, 4096, 100_000))
            most = book.ceiling(
                provider, model, input_tokens_max=most_in, output_tokens_max=most_out, at_ms=at, **facts
            )
            for _ in range(6):
                counts = usage(seed, most_in, most_out)
                got = book.price({"provider": provider, "model": model, **counts, **facts}, at)
                asked += 1
                if got.cost_nanousd is None:
                    continue
                priced += 1
                assert most is not None, (provider, model, facts, counts, got)
                assert got.cost_nanousd <= most, (provider, model, facts, counts, got, most)
                tight += got.cost_nanousd == most
    # the sample says something: most calls have a price, and the ceiling is reached
    assert priced > asked // 3
    assert tight > 100


@pytest.mark.parametrize(
    "provider, model, into, out, nano",
    [
        # input at its rate, output at its rate
        ("openai", "gpt-4o", 1000, 100, 1000 * 2500 + 100 * 10_000),
        # every token of the prompt may be written to the cache for an hour: twice the input price
        ("anthropic", "claude-opus-4-5", 1000, 100, 1000 * 10_000 + 100 * 25_000),
        # audio is dearer than text
        ("openai", "gpt-realtime", 100, 10, 100 * 32_000 + 10 * 64_000),
        # the threshold can be passed, and can not
        ("google", "gemini-2.5-pro", 200_001, 100, 200_001 * 2500 + 100 * 15_000),
        ("google", "gemini-2.5-pro", 200_000, 100, 200_000 * 1250 + 100 * 10_000),
        # a fee per request
        ("perplexity", "sonar-pro", 10, 10, 10 * 3000 + 10 * 15_000 + 14_000_000),
        ("google", "gemma-3-27b-it", 10, 10, 0),
    ],
)
def test_the_ceiling_is_the_dearest_the_row_can_charge(
    provider: str, model: str, into: int, out: int, nano: int
) -> None:
    got = default_book().ceiling(provider, model, input_tokens_max=into, output_tokens_max=out, at_ms=TIMES[0])
    assert got == nano


@pytest.mark.parametrize("key", [key for key in TOKEN_KEYS if key != "cache_image_read"])  # which no receipt counts
def test_any_class_of_tokens_may_be_the_dearest(key: str) -> None:
    data = {"m": {"prices": [[None, {**dict.fromkeys(TOKEN_KEYS, "1"), key: "9"}]]}}
    head = {"schema": 1, "source": "test", "version": "1", "date": "2026-11-29"}
    book = PriceBook({**head, "books": {"openai": {"names": {"m": "m"}, "models": data}}})
    most = book.ceiling("openai", "m", input_tokens_max=10, output_tokens_max=100, at_ms=0)
    into, out = (1, 9) if key.startswith("output") else (9, 1)
    assert most == into * 10_000 + out * 100_000


def test_what_cannot_be_priced_has_no_ceiling() -> None:
    for provider, model in (
        ("openai", "gpt-99"),
        ("nobody", "x"),
        ("openai", "whisper-1"),
        ("openai", "tts-1"),
        # besides its tokens it charges citations and video, which no bound counts
        ("perplexity", "sonar-deep-research"),
        ("google", "gemini-omni-1.1-flash"),
    ):
        got = default_book().ceiling(provider, model, input_tokens_max=1, output_tokens_max=1, at_ms=TIMES[0])
        assert got is None
    tier = {"service_tier": "scale"}
    assert (
        default_book().ceiling("openai", "gpt-5", input_tokens_max=1, output_tokens_max=1, at_ms=TIMES[0], **tier)
        is None
    )


def test_a_row_that_gets_cheaper_with_size_is_bounded_by_its_dearer_part() -> None:
    rows = {"m": {"prices": [[None, {"input": ["3", [100, "1"]], "output": ["9", [100, "10"]]}]]}}
    head = {"schema": 1, "source": "test", "version": "1", "date": "2026-11-29"}
    book = PriceBook({**head, "books": {"openai": {"names": {"m": "m"}, "models": rows}}})
    most = book.ceiling("openai", "m", input_tokens_max=101, output_tokens_max=1, at_ms=0)
    small = book.price({"provider": "openai", "model": "m", "input_tokens": 100, "output_tokens": 1}, 0)
    assert most is not None and small.cost_nanousd is not None and small.cost_nanousd <= most
    assert book.ceiling("openai", "m", input_tokens_max=0, output_tokens_max=0, at_ms=0) == 0
