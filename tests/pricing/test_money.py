"""Given a receipt, expect this cost: classes, thresholds, fees, rounding, and what stays unpriced."""

from __future__ import annotations

import random
from fractions import Fraction
from typing import Any, Dict

import pytest

from aicostguard.pricing import BadPrice, PriceBook, price
from aicostguard.pricing.charge import nano

#: 22 November 2026, 12:00 UTC
NOW = 1_795_348_800_000


def book(models: Dict[str, Any], name: str = "openai") -> PriceBook:
    rows = {model: data if "prices" in data else {"prices": [[None, data]]} for model, data in models.items()}
    return PriceBook(
        {
            "schema": 1,
            "source": "test",
            "version": "1",
            "date": "2026-11-22",
            "books": {name: {"names": {model: model for model in rows}, "models": rows}},
        }
    )


def receipt(model: str = "m", provider: str = "openai", **more: Any) -> Dict[str, Any]:
    return {"provider": provider, "model": model, **more}


SIMPLE = {"m": {"input": "2.5", "output": "10"}}


def test_a_plain_call_costs_its_tokens_at_two_rates() -> None:
    got = book(SIMPLE).price(receipt(input_tokens=1240, output_tokens=312), NOW)
    assert got.cost_nanousd == 6_220_000
    assert got.row == "openai:m@undated"
    assert got.reason is None
    assert got.parts == (
        ("input", 1240, "$2.5 per 1M tokens", 3_100_000),
        ("output", 312, "$10 per 1M tokens", 3_120_000),
    )


@pytest.mark.ids("C6")
def test_an_unknown_model_is_unpriced_and_never_zero_or_a_default() -> None:
    for provider, model in (("openai", "gpt-99"), ("custom", "gpt-4o"), ("nobody", "x"), ("openai", "unknown")):
        got = price(receipt(model, provider, input_tokens=5, output_tokens=5), NOW)
        assert got.cost_nanousd is None and got.row is None and got.parts == ()
        assert got.reason


@pytest.mark.parametrize(
    "provider, model, reason",
    [
        ("openai", "gpt-99", "no price for model gpt-99 of openai"),
        ("azure", "support-bot", "no price for model support-bot of azure"),
        ("nobody", "x", "no prices for provider nobody"),
        ("", "x", "no price for model x"),
    ],
)
def test_the_reason_says_whether_the_model_or_its_provider_is_unknown(provider: str, model: str, reason: str) -> None:
    assert price(receipt(model, provider, input_tokens=5, output_tokens=5), NOW).reason == reason


@pytest.mark.ids("C2")
@pytest.mark.parametrize("tier", ["default", "standard", "auto", "on_demand"])
def test_a_tier_that_is_none_costs_the_standard_price(tier: str) -> None:
    got = price(receipt("gpt-4o", service_tier=tier, input_tokens=1000, output_tokens=100), NOW)
    assert got.cost_nanousd == 1000 * 2500 + 100 * 10_000
    other = receipt("gpt-4o", service_tier="unheard-of", input_tokens=1, output_tokens=1)
    assert price(other, NOW).cost_nanousd is None


@pytest.mark.ids("C2")
@pytest.mark.parametrize(
    "provider, model, tier, nano",
    [
        # as the book has them: halves of 5 and 25, of 1.25 and 10, of 0.15 and 0.6; fast mode costs twice 5 and 25
        ("anthropic", "claude-opus-4-6", "batch", 1000 * 2500 + 100 * 12_500),
        ("anthropic", "claude-opus-4-8", "fast", 1000 * 10_000 + 100 * 50_000),
        ("google", "gemini-2.5-pro", "batch", 1000 * 625 + 100 * 5000),
        ("groq", "openai/gpt-oss-120b", "batch", 1000 * 75 + 100 * 300),
    ],
)
def test_a_served_tier_that_the_book_calls_otherwise_has_its_price(
    provider: str, model: str, tier: str, nano: int
) -> None:
    got = price(receipt(model, provider, service_tier=tier, input_tokens=1000, output_tokens=100), NOW)
    assert got.cost_nanousd == nano


@pytest.mark.ids("C6")
def test_without_usage_there_is_no_cost_and_a_counted_zero_is_one() -> None:
    rows = book(SIMPLE)
    assert rows.price(receipt(usage_missing=True), NOW)[:3] == (None, None, "usage missing")
    assert rows.price(receipt(latency_ms=12), NOW)[:3] == (None, None, "usage missing")
    assert rows.price(receipt(input_tokens=0, output_tokens=0), NOW).cost_nanousd == 0
    half = rows.price(receipt(output_tokens=5), NOW)
    assert half.cost_nanousd is None and half.reason == "input_tokens missing"


@pytest.mark.ids("C3")
@pytest.mark.parametrize("tokens, rate", [(1, 3), (199_999, 3), (200_000, 3), (200_001, 6), (999_999, 6)])
def test_the_long_context_rate_takes_the_whole_request_and_exactly_the_threshold_stays_low(
    tokens: int, rate: int
) -> None:
    rows = book({"m": {"input": ["3", [200_000, "6"]], "output": ["15", [200_000, "22.5"]]}})
    got = rows.price(receipt(input_tokens=tokens, output_tokens=1000), NOW)
    out = 15_000_000 if rate == 3 else 22_500_000
    assert got.cost_nanousd == tokens * rate * 1000 + out


@pytest.mark.ids("C3")
def test_the_threshold_counts_cached_input_and_moves_cached_prices_too() -> None:
    rows = book({"m": {"input": ["2", [100, "4"]], "cache_read": ["0.2", [100, "0.4"]], "output": "8"}})
    below = rows.price(receipt(input_tokens=100, cache_read_input_tokens=100, output_tokens=0), NOW)
    above = rows.price(receipt(input_tokens=101, cache_read_input_tokens=100, output_tokens=0), NOW)
    assert below.cost_nanousd == 20_000
    assert above.cost_nanousd == 4_000 + 40_000


@pytest.mark.ids("C3")
def test_a_provider_whose_edge_is_inclusive_has_it_in_its_row() -> None:
    # "Long context >= 200k tokens": https://docs.x.ai/docs/models
    low = price(receipt("grok-4.5", "xai", input_tokens=199_999, output_tokens=0), NOW)
    high = price(receipt("grok-4.5", "xai", input_tokens=200_000, output_tokens=0), NOW)
    assert (low.cost_nanousd, high.cost_nanousd) == (399_998_000, 800_000_000)


@pytest.mark.ids("C3")
def test_gemini_switches_above_200_thousand() -> None:
    # "prompts <= 200k tokens" / "> 200k tokens": https://ai.google.dev/gemini-api/docs/pricing
    edge = price(receipt("gemini-2.5-pro", "google", input_tokens=200_000, output_tokens=100), NOW)
    over = price(receipt("gemini-2.5-pro", "google", input_tokens=200_001, output_tokens=100), NOW)
    assert edge.cost_nanousd == 200_000 * 1250 + 100 * 10_000
    assert over.cost_nanousd == 200_001 * 2500 + 100 * 15_000


@pytest.mark.ids("C1")
@pytest.mark.parametrize("provider, model", [("anthropic", "claude-x"), ("openrouter", "anthropic/claude-x")])
def test_an_hours_cache_write_is_twice_the_input_price_when_the_row_has_none(provider: str, model: str) -> None:
    rows = book({model: {"input": "3", "output": "15", "cache_read": "0.3"}}, provider)
    got = rows.price(
        receipt(
            model,
            provider,
            input_tokens=1000,
            cache_read_input_tokens=100,
            cache_creation_input_tokens=500,
            cache_creation_1h_input_tokens=200,
            output_tokens=0,
        ),
        NOW,
    )
    assert [(part[0], part[1], part[3]) for part in got.parts] == [
        ("input", 400, 400 * 3000),
        ("cache_read", 100, 100 * 300),
        ("cache_write", 300, 300 * 3750),
        ("cache_write_1h", 200, 200 * 6000),
    ]


@pytest.mark.ids("C1")
def test_every_claude_row_of_the_book_charges_an_hour_at_twice_the_input() -> None:
    from aicostguard.pricing import default_book

    models = default_book()._books["anthropic"]["models"]
    assert len(models) > 20
    for model in models:
        base = price(receipt(model, "anthropic", input_tokens=1_000_000, output_tokens=0), NOW)
        hour = price(
            receipt(
                model,
                "anthropic",
                input_tokens=1_000_000,
                cache_creation_input_tokens=1_000_000,
                cache_creation_1h_input_tokens=1_000_000,
            ),
            NOW,
        )
        assert base.cost_nanousd is not None and hour.cost_nanousd == 2 * base.cost_nanousd, model


@pytest.mark.ids("C4")
def test_audio_has_its_own_rate_or_no_price_at_all() -> None:
    known = price(
        receipt("gpt-realtime", input_tokens=150, input_audio_tokens=100, output_tokens=70, output_audio_tokens=50), NOW
    )
    assert known.cost_nanousd == 50 * 4000 + 100 * 32_000 + 20 * 16_000 + 50 * 64_000
    # the source's row has no audio price; the text rate would be a sixteenth of it
    unknown = price(receipt("gpt-4o-audio-preview", input_tokens=150, input_audio_tokens=100, output_tokens=7), NOW)
    assert unknown.cost_nanousd is None and unknown.reason == "no price for input audio tokens"


@pytest.mark.ids("C4")
def test_cached_audio_is_a_part_of_both_and_charged_once() -> None:
    rows = book(
        {"m": {"input": "4", "cache_read": "0.4", "input_audio": "32", "cache_audio_read": "1", "output": "16"}}
    )
    got = rows.price(
        receipt(
            input_tokens=1000,
            cache_read_input_tokens=300,
            input_audio_tokens=500,
            cache_read_audio_tokens=200,
            output_tokens=0,
        ),
        NOW,
    )
    assert {part[0]: part[1] for part in got.parts} == {
        "input": 400,
        "cache_read": 100,
        "cache_audio_read": 200,
        "input_audio": 300,
    }


@pytest.mark.ids("C4")
def test_images_are_input_tokens_unless_the_row_says_otherwise() -> None:
    plain = price(receipt("gpt-4o", input_tokens=1000, input_image_tokens=900, output_tokens=0), NOW)
    assert plain.cost_nanousd == 2_500_000
    embedded = receipt("embed-v4.0", "cohere", input_tokens=1000, output_tokens=0)
    assert price(embedded, NOW).cost_nanousd == 120_000
    assert price({**embedded, "input_image_tokens": 900}, NOW).reason == "no price for input image tokens"
    own = price(receipt("gpt-image-1.5", input_tokens=1000, input_image_tokens=900, output_tokens=0), NOW)
    assert own.cost_nanousd == 100 * 5000 + 900 * 8000
    made = price(
        receipt("gemini-2.5-flash-image", "google", input_tokens=10, output_tokens=1300, output_image_tokens=1290), NOW
    )
    assert made.cost_nanousd == 10 * 300 + 10 * 2500 + 1290 * 30_000


@pytest.mark.ids("C4")
def test_a_search_fee_is_the_number_of_searches_made() -> None:
    tokens = {"input_tokens": 100, "output_tokens": 10}
    none = price(receipt("claude-opus-5", "anthropic", web_searches=0, **tokens), NOW)
    two = price(receipt("claude-opus-5", "anthropic", web_searches=2, **tokens), NOW)
    assert none.cost_nanousd is not None and two.cost_nanousd == none.cost_nanousd + 20_000_000
    unknown = price(receipt("claude-3-haiku", "anthropic", web_searches=1, **tokens), NOW)
    assert unknown.cost_nanousd is None and unknown.reason == "no price for web_searches"


@pytest.mark.ids("C4")
def test_a_fee_per_request_is_charged_once_a_receipt_or_as_often_as_counted() -> None:
    once = price(receipt("sonar-pro", "perplexity", input_tokens=10, output_tokens=10), NOW)
    twice = price(receipt("sonar-pro", "perplexity", input_tokens=10, output_tokens=10, requests_billed=2), NOW)
    assert once.cost_nanousd == 10 * 3000 + 10 * 15_000 + 14_000_000
    assert twice.cost_nanousd == once.cost_nanousd + 14_000_000


def test_audio_by_the_hour_text_by_the_character_and_a_hosts_least_billed_time() -> None:
    assert price(receipt("whisper-1", audio_ms=60_000), NOW).cost_nanousd == 6_000_000
    assert price(receipt("tts-1", characters=1000), NOW).cost_nanousd == 15_000_000
    short = price(receipt("whisper-large-v3", "groq", audio_ms=2000), NOW)
    assert short.cost_nanousd == nano(Fraction(111, 1000) * 10**15 * 10_000 / 3_600_000)
    assert price(receipt("whisper-1", input_tokens=5), NOW).reason is not None
    # no tokens is no answer where the row charges by length
    assert price(receipt("whisper-1", input_tokens=0, output_tokens=0), NOW).cost_nanousd is None


def test_reasoning_is_output_and_embeddings_have_none() -> None:
    base = price(receipt("o3", input_tokens=10, output_tokens=100), NOW)
    assert price(receipt("o3", input_tokens=10, output_tokens=100, reasoning_output_tokens=90), NOW) == base
    embedded = price(receipt("text-embedding-3-small", operation="embeddings", input_tokens=1000), NOW)
    assert embedded.cost_nanousd == 20_000


def test_a_class_without_a_price_leaves_the_receipt_unpriced() -> None:
    rows = book({"m": {"input": "1", "output": "2"}}, "deepseek")
    ask = receipt("m", "deepseek", input_tokens=100, output_tokens=1)
    assert rows.price(ask, NOW).cost_nanousd == 102_000
    assert rows.price({**ask, "cache_read_input_tokens": 5}, NOW).reason == "no price for cache read tokens"
    assert rows.price({**ask, "cache_creation_input_tokens": 5}, NOW).reason == "no price for cache write tokens"
    assert rows.price({**ask, "tool_calls_billed": 1}, NOW).reason == "no price for tool_calls_billed"
    # a measure of what the tokens already count is not charged twice
    assert rows.price({**ask, "images": 1}, NOW).cost_nanousd == 102_000


def test_cached_input_without_a_discount_is_full_price_where_the_provider_says_so() -> None:
    got = price(receipt("o3-pro", input_tokens=1000, cache_read_input_tokens=600, output_tokens=0), NOW)
    assert got.cost_nanousd == 1000 * 20_000
    for provider, rate in (("fireworks", 1500), ("groq", 1500), ("mistral", 300), ("cerebras", 3000)):
        less = book({"m": {"input": "3", "output": "8"}}, provider).price(
            receipt("m", provider, input_tokens=1000, cache_read_input_tokens=600, output_tokens=0), NOW
        )
        assert less.cost_nanousd == 400 * 3000 + 600 * rate


def test_a_row_that_charges_what_no_receipt_counts_is_not_used() -> None:
    got = price(receipt("sonar-deep-research", "perplexity", input_tokens=10, output_tokens=10), NOW)
    assert got.cost_nanousd is None and "citation tokens" in (got.reason or "")


def test_free_is_zero_only_where_the_provider_says_free() -> None:
    free = price(receipt("omni-moderation-latest", operation="moderation", input_tokens=10), NOW)
    assert (free.cost_nanousd, free.row, free.parts) == (0, "openai:moderation@undated", ())
    assert price(receipt("gemma-3-27b-it", "google", input_tokens=1, output_tokens=1), NOW).cost_nanousd == 0
    assert price(receipt("gemma-3-27b-it", "vertex", input_tokens=1, output_tokens=1), NOW).cost_nanousd is None


@pytest.mark.ids("C7")
def test_parts_that_exceed_the_whole_are_refused_and_no_cost_is_negative() -> None:
    rows = book({"m": {"input": "3", "cache_read": "0.3", "input_audio": "9", "output": "15"}})
    bad = rows.price(receipt(input_tokens=10, cache_read_input_tokens=11, output_tokens=0), NOW)
    assert bad.cost_nanousd is None and "exceed" in (bad.reason or "")
    seed = random.Random(7)
    for _ in range(2000):
        counts = {
            key: seed.randrange(0, 50)
            for key in ("input_tokens", "output_tokens", "cache_read_input_tokens", "input_audio_tokens")
        }
        got = rows.price(receipt(**counts), NOW)
        assert got.cost_nanousd is None or got.cost_nanousd >= 0
        assert all(part[3] >= 0 and part[1] >= 0 for part in got.parts)


@pytest.mark.ids("C7")
@pytest.mark.parametrize(
    "value", ["-1", "-0.5", "NaN", "Infinity", "1e3", "", " 2", "free", -1, 2.5, None, float("nan"), True]
)
def test_a_bad_price_is_refused_with_row_key_and_value(value: Any) -> None:
    with pytest.raises(BadPrice) as caught:
        book({"m": {"input": "1", "output": value}})
    assert "openai:m.output" in str(caught.value) and repr(value) in str(caught.value)
    with pytest.raises(BadPrice):
        book({"m": {"input": ["1", [200, value]], "output": "1"}})


@pytest.mark.ids("C7")
def test_rows_that_make_no_sense_are_refused() -> None:
    tiers = (["1", [200, "2"], [100, "3"]], ["1"], ["1", [0, "2"]], ["1", ["200", "2"]], ["-1", [200, "2"]])
    for prices in ({"inptu": "1"}, *({"input": tier} for tier in tiers)):
        with pytest.raises(BadPrice):
            book({"m": prices})
    for when in ("2026-13-01", "yesterday", "25:00-26:00"):
        with pytest.raises(BadPrice):
            book({"m": {"prices": [[when, {"input": "1"}]]}})
    with pytest.raises(BadPrice):
        book({"m": {"prices": []}})


@pytest.mark.ids("C10")
def test_money_is_integers_and_rounded_once() -> None:
    # $0.0375 a million = 37.5 nano a token: three tokens are 112.5, a tie, to the even neighbour
    rows = book({"m": {"input": "0.0375", "output": "0.0375"}})
    assert rows.price(receipt(input_tokens=3, output_tokens=0), NOW).cost_nanousd == 112
    assert rows.price(receipt(input_tokens=0, output_tokens=3), NOW).cost_nanousd == 112
    assert rows.price(receipt(input_tokens=1, output_tokens=0), NOW).cost_nanousd == 38
    # terms are not rounded apart: 37.5 + 37.5 is 75, not 76
    both = rows.price(receipt(input_tokens=1, output_tokens=1), NOW)
    assert both.cost_nanousd == 75 and sum(part[3] for part in both.parts) == 75
    # 0.1 + 0.2 in dollars, which binary floats miss
    tenth = book({"m": {"input": "0.1", "output": "0.2"}})
    assert tenth.price(receipt(input_tokens=1_000_000, output_tokens=1_000_000), NOW).cost_nanousd == 300_000_000


@pytest.mark.ids("C10")
def test_parts_add_up_to_the_cost_and_the_cost_to_exact_arithmetic() -> None:
    rates = {"input": "0.0833333333333333", "cache_read": "0.00375", "output": "0.15", "output_reasoning": "0.0375"}
    rows = book({"m": rates})
    seed = random.Random(11)
    for _ in range(500):
        whole, out = seed.randrange(1, 10**6), seed.randrange(1, 10**6)
        cached, thought = seed.randrange(0, whole), seed.randrange(0, out)
        got = rows.price(
            receipt(
                input_tokens=whole, cache_read_input_tokens=cached, output_tokens=out, reasoning_output_tokens=thought
            ),
            NOW,
        )
        exact = (
            Fraction(rates["input"]) * (whole - cached)
            + Fraction(rates["cache_read"]) * cached
            + Fraction(rates["output"]) * (out - thought)
            + Fraction(rates["output_reasoning"]) * thought
        ) * 1000
        assert got.cost_nanousd == round(exact)
        assert sum(part[3] for part in got.parts) == got.cost_nanousd
        assert all(type(part[3]) is int for part in got.parts)


def test_any_receipt_that_fits_the_schema_gets_a_cost_or_a_reason_and_no_exception() -> None:
    from aicostguard.pricing import default_book
    from aicostguard.receipt import FIELDS, OPERATIONS, check

    seed = random.Random(5)
    known = [(name, model) for name, content in default_book()._books.items() for model in content["models"]]
    values = {"int": (0, 1, 7, 1000, 10**9), "flag": (True,), "enum": ("default", "flex", "us", "x-1")}
    priced = 0
    for _ in range(4000):
        provider, model = seed.choice(known)
        ask: Dict[str, Any] = {"provider": provider, "model": model}
        ask.update(input_tokens=seed.randrange(10**6), output_tokens=seed.randrange(10**5))
        for key in seed.sample(sorted(FIELDS), seed.randrange(0, 6)):
            if key == "operation":
                ask[key] = seed.choice(OPERATIONS)
            elif FIELDS[key].kind in values:
                ask[key] = seed.choice(values[FIELDS[key].kind])
        if not check(ask):
            got = price(ask, seed.choice((0, NOW, 10**13)))
            priced += got.cost_nanousd is not None
            assert (got.cost_nanousd is None) == (got.row is None) == (got.reason is not None)
            assert (got.cost_nanousd or 0) == sum(part[3] for part in got.parts)
            at_ms = seed.choice((0, NOW, 10**13))
            assert default_book().cost(ask, at_ms) == price(ask, at_ms)._replace(parts=()), ask
    assert priced > 1000


@pytest.mark.ids("C4")
def test_file_searches_and_rerank_units_are_charged_by_the_number_made() -> None:
    # $2.50 per 1,000 calls: https://developers.openai.com/api/docs/pricing
    plain = price(receipt("gpt-4o", input_tokens=10, output_tokens=1), NOW).cost_nanousd
    asked = price(receipt("gpt-4o", input_tokens=10, output_tokens=1, tool_calls_billed=3), NOW).cost_nanousd
    assert plain is not None and asked == plain + 7_500_000
    # xAI's tools have several prices, and a receipt has one count for all of them
    mixed = price(receipt("grok-4", "xai", input_tokens=10, output_tokens=1, tool_calls_billed=3), NOW)
    assert mixed.cost_nanousd is None and mixed.reason == "no price for tool_calls_billed"
    units = price(receipt("rerank-v3.5", "cohere", operation="rerank", search_units=3), NOW)
    assert (units.cost_nanousd, units.row) == (6_000_000, "cohere:rerank-v3.5@undated")


@pytest.mark.ids("C5")
def test_fine_tuned_models_have_the_price_of_their_own_row() -> None:
    # https://developers.openai.com/api/docs/pricing#fine-tuning
    got = price(
        receipt(
            "ft:gpt-4.1-2025-04-14:acme::9abc",
            input_tokens=1_000_000,
            cache_read_input_tokens=500_000,
            output_tokens=1_000_000,
        ),
        NOW,
    )
    assert got.cost_nanousd == 1_500_000_000 + 375_000_000 + 12_000_000_000
    batch = price(receipt("ft:gpt-4.1-2025-04-14:acme::9abc", operation="batch", input_tokens=1, output_tokens=1), NOW)
    assert batch.cost_nanousd is None


def test_the_short_way_to_a_cost_leads_where_the_long_one_does() -> None:
    """`cost` looks for the usual case first; whatever it knows must be what `price` works out term by term."""
    from aicostguard.pricing import default_book

    rows, seed, agreed = default_book(), random.Random(7), 0
    for name, content in rows._books.items():
        for model in content["models"]:
            for _ in range(2):
                ask = receipt(model, name, input_tokens=seed.choice((0, 1, 999, 200_000, 200_001, 10**9)))
                if seed.random() < 0.8:
                    ask["output_tokens"] = seed.choice((0, 3, 12_345))
                if seed.random() < 0.6:
                    ask["cache_read_input_tokens"] = seed.choice((0, 1, 500, 10**6))
                for key in ("input_tokens", "requests_billed", "web_searches", "usage_missing", "service_tier"):
                    if seed.random() < 0.05:
                        ask.pop(key, None) if key == "input_tokens" else ask.update(
                            {key: {"usage_missing": True, "service_tier": "flex"}.get(key, 2)}
                        )
                at_ms = seed.choice((0, NOW))
                long = rows.price(ask, at_ms)
                assert rows.cost(ask, at_ms) == long._replace(parts=()), ask
                agreed += bool(long.cost_nanousd)
    assert agreed > 1000
