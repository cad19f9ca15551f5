"""The prices file: what it changes, and how every mistake in it is named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Optional

import pytest

from aicostguard import CostCalculator, ModelPricing
from aicostguard.pricing import PriceBook, default_book, pricefile
from aicostguard.pricing.pricefile import BadPriceFile, parse

#: 22 November 2026, 12:00 UTC
NOW = 1_795_348_800_000
DAY = 86_400_000
#: 1 January 2026 and 1 January 2027, 0:00 UTC
START, END = 1_767_225_600_000, 1_798_761_600_000


def book(**parts: Any) -> PriceBook:
    return default_book().with_own(parse(json.dumps({"version": 1, **parts}), "prices.json"))


def ask(model: str, provider: str, **more: Any) -> Dict[str, Any]:
    return {"provider": provider, "model": model, "input_tokens": 1000, "output_tokens": 100, **more}


OWN = {"provider": "corp", "model": "llama-70b", "input_per_million": 0.5, "output_per_million": 1.5}


@pytest.mark.ids("E04")
def test_a_gateways_own_prices_hold_for_its_calls() -> None:
    rows = book(prices=[{**OWN, "from": "2026-01-01", "cached_per_million": 0.05}])
    got = rows.price(ask("llama-70b", "corp", cache_read_input_tokens=600), NOW)
    assert got.cost_nanousd == 400 * 500 + 600 * 50 + 100 * 1500
    assert got.row == "own:corp/llama-70b@2026-01-01"
    assert rows.price(ask("llama-70b", "corp"), START - 1).cost_nanousd is None
    assert rows.price(ask("llama-70b", "elsewhere"), NOW).cost_nanousd is None
    # the book beside it is as it was, and the shipped book as well
    assert rows.price(ask("gpt-4o", "openai"), NOW).row == "openai:gpt-4o@undated"
    assert default_book().price(ask("llama-70b", "corp"), NOW).cost_nanousd is None


@pytest.mark.ids("E04")
def test_images_and_video_have_prices_of_ones_own() -> None:
    """By the piece and by the second, beside tokens where a row has both; the book has none."""
    made: Dict[str, Any] = {"provider": "openai", "model": "dall-e-3", "operation": "image", "images": 3}
    film: Dict[str, Any] = {"provider": "google", "model": "veo-3.0", "operation": "video", "video_ms": 8_000}
    both = {**OWN, "per_image": 0.01}
    rows = book(
        prices=[
            {"provider": "openai", "model": "dall-e-3", "per_image": 0.04},
            {"provider": "google", "model": "veo-*", "video_per_second": 0.4},
            both,
        ]
    )
    assert rows.price(made, NOW).cost_nanousd == 120_000_000
    assert rows.price(film, NOW).cost_nanousd == 3_200_000_000
    assert rows.price({**film, "video_ms": 8_001}, NOW).cost_nanousd == 3_200_400_000
    got = rows.price(ask("llama-70b", "corp", images=2), NOW)
    assert got.cost_nanousd == 1000 * 500 + 100 * 1500 + 2 * 10_000_000
    assert [(part[0], part[2]) for part in got.parts][-1] == ("images", "$10 per 1,000 images")
    # How many will be made is not known before: no bound of tokens holds them.
    most = {"input_tokens_max": 1000, "output_tokens_max": 100, "at_ms": NOW}
    assert rows.ceiling("corp", "llama-70b", **most) is None
    assert book(prices=[OWN]).ceiling("corp", "llama-70b", **most) == 1000 * 500 + 100 * 1500
    for unheard in (made, film):
        assert default_book().price(unheard, NOW).cost_nanousd is None
    assert rows.price({**made, "images": 0}, NOW).cost_nanousd == 0


@pytest.mark.ids("E04")
def test_a_base_url_leads_to_its_provider_the_longest_first() -> None:
    own = parse(
        json.dumps(
            {
                "version": 1,
                "base_urls": {"https://llm.corp.example": "corp", "https://llm.corp.example/cheap": "corp-cheap"},
                "prices": [{**OWN, "base_url": "https://llm.corp.example/cheap", "provider": None}],
            }
        ).replace('"provider": null, ', ""),
        "prices.json",
    )
    assert own.provider_of("https://llm.corp.example/v1/") == "corp"
    assert own.provider_of("https://LLM.corp.example/cheap/v1") == "corp-cheap"
    assert own.provider_of("https://llm.corp.example.evil.test/v1") is None
    assert own.prices[0].scope.provider == "corp-cheap"


@pytest.mark.ids("C8")
def test_own_prices_have_dates_and_the_book_holds_outside_them() -> None:
    rows = book(
        prices=[
            {"provider": "openai", "model": "gpt-4o", "from": "2026-01-01", "until": "2027-01-01",
             "input_per_million": 2, "output_per_million": 8},
        ]
    )  # fmt: skip
    seen = [rows.price(ask("gpt-4o-2024-08-06", "openai"), at).row for at in (START - 1, START, END - 1, END)]
    assert seen == ["openai:gpt-4o@undated", *2 * ["own:openai/gpt-4o@2026-01-01"], "openai:gpt-4o@undated"]


@pytest.mark.ids("C2")
def test_an_own_price_is_for_the_tier_it_names() -> None:
    rows = book(prices=[{"provider": "openai", "model": "gpt-5", "input_per_million": 1, "output_per_million": 1}])
    assert rows.price(ask("gpt-5", "openai", service_tier="default"), NOW).row == "own:openai/gpt-5@undated"
    assert (rows.price(ask("gpt-5", "openai", service_tier="flex"), NOW).row or "").startswith("openai:gpt-5+flex@")
    assert (rows.price(ask("gpt-5", "openai", operation="batch"), NOW).row or "").startswith("openai:gpt-5+batch@")
    flex = book(
        prices=[{"provider": "openai", "model": "gpt-5", "service_tier": "flex", "input_per_million": 1},
                {"provider": "openai", "model": "gpt-5", "batch": True, "input_per_million": 2}]
    )  # fmt: skip
    one = ask("gpt-5", "openai", output_tokens=0)
    assert flex.price({**one, "service_tier": "flex"}, NOW).row == "own:openai/gpt-5+flex@undated"
    assert flex.price({**one, "operation": "batch"}, NOW).cost_nanousd == 2_000_000
    assert flex.price(one, NOW).row == "openai:gpt-5@undated"


def test_discounts_scale_every_part_and_the_most_exact_one_counts() -> None:
    usage = {"cache_read_input_tokens": 300, "web_searches": 1}
    listed = default_book().price(ask("gpt-4o", "openai", **usage), NOW).cost_nanousd
    rows = book(
        discounts=[
            {"provider": "openai", "percent": 12.5, "from": "2026-01-01", "until": "2027-01-01"},
            {"provider": "openai", "model": "gpt-4o", "percent": 20, "from": "2026-01-01"},
        ]
    )
    got = rows.price(ask("gpt-4o", "openai", **usage), NOW)
    assert listed is not None and got.cost_nanousd == listed * 80 // 100
    assert got.row == "openai:gpt-4o@undated-20%@2026-01-01"
    assert all("-20%" in part[2] for part in got.parts) and sum(part[3] for part in got.parts) == got.cost_nanousd
    other = rows.price(ask("gpt-4.1", "openai"), NOW)
    assert other.cost_nanousd == (1000 * 2000 + 100 * 8000) * 875 // 1000
    assert rows.price(ask("gpt-4o", "openai"), START - 1).row == "openai:gpt-4o@undated"
    assert (rows.price(ask("gpt-4.1", "openai"), END).row or "").endswith("@undated")
    # tokens alone, where fees are not discounted
    tokens = book(discounts=[{"provider": "openai", "percent": 50, "fees": False}])
    assert tokens.price(ask("gpt-4o", "openai", **usage), NOW).cost_nanousd == (listed - 10_000_000) // 2 + 10_000_000


@pytest.mark.ids("C9")
def test_a_premium_of_ones_own_scales_token_prices_of_its_regions() -> None:
    rows = book(
        premiums=[{"provider": "vertex", "model": "gemini-*", "region": "europe-*", "percent": 10}],
        discounts=[{"provider": "vertex", "percent": 50}],
    )
    call = ask("gemini-2.5-pro", "vertex", cache_read_input_tokens=500)
    plain = default_book().price(call, NOW).cost_nanousd
    assert plain is not None
    assert rows.price({**call, "region": "europe-west1"}, NOW).cost_nanousd == plain * 55 // 100
    assert rows.price({**call, "region": "us-central1"}, NOW).cost_nanousd == plain // 2
    assert rows.price(call, NOW).cost_nanousd == plain // 2


@pytest.mark.ids("C9")
def test_discount_and_premiums_multiply_and_say_so() -> None:
    # $5 and $25 per million (https://platform.claude.com/docs/en/about-claude/pricing): x 0.8 x 1.1 (US) x 1.25 is 1.1
    rows = book(
        discounts=[{"provider": "anthropic", "percent": 20}],
        premiums=[{"provider": "anthropic", "percent": 25}],
    )
    got = rows.price(ask("claude-opus-4-6", "anthropic", region="us", web_searches=1), NOW)
    # a premium is on tokens: the $10 for 1,000 searches have the discount alone
    assert got.cost_nanousd == (1000 * 5000 + 100 * 25_000) * 110 // 100 + 8_000_000
    texts = {name: text for name, _, text, _ in got.parts}
    assert texts["input"] == "$5 per 1M tokens *1.1 -20% +25%"
    assert texts["web_searches"] == "$10 per 1,000 searches -20%"


def test_the_more_exact_of_ones_own_terms_counts_whatever_the_order() -> None:
    terms = [
        {"provider": "openai", "percent": 10},
        {"provider": "openai", "region": "eu", "percent": 30},
        {"provider": "openai", "region": "eu", "percent": 40, "from": "2026-01-01"},
    ]
    for discounts in (terms, terms[::-1]):
        rows = book(discounts=discounts)
        for region, at, times in (("eu", NOW, 60), ("eu", START - 1, 70), ("jp", NOW, 90)):
            got = rows.price(ask("gpt-4o", "openai", region=region), at).cost_nanousd
            assert got == (1000 * 2500 + 100 * 10_000) * times // 100, (region, at)
    prices = [{**OWN, "model": "llama-*"}, {**OWN, "input_per_million": 2}, {**OWN, "model": "*", "provider": "corp"}]
    for own in (prices, prices[::-1]):
        assert book(prices=own).price(ask("llama-70b", "corp"), NOW).cost_nanousd == 1000 * 2000 + 100 * 1500
    aliases = [{"model": "chat", "is": "gpt-4o"}, {"model": "chat*", "is": "gpt-4.1"}]
    for names in (aliases, aliases[::-1]):
        assert (book(aliases=names).price(ask("chat", "openai"), NOW).row or "").startswith("openai:gpt-4o@")


def test_own_prices_follow_one_another() -> None:
    rows = book(
        prices=[
            {**OWN, "from": "2026-01-01", "until": "2027-01-01"},
            {**OWN, "from": "2027-01-01", "input_per_million": 0.25},
        ]
    )
    costs = [rows.price(ask("llama-70b", "corp"), at).cost_nanousd for at in (START - 1, START, END - 1, END)]
    assert costs == [None, 650_000, 650_000, 400_000]


def test_what_speaks_of_a_listed_model_speaks_of_its_aliases() -> None:
    rows = book(
        aliases=[{"provider": "azure", "model": "support-bot", "is": "gpt-4o"}],
        discounts=[{"model": "gpt-4o", "percent": 50}],
    )
    got = rows.price(ask("support-bot", "azure"), NOW)
    assert got.cost_nanousd == (1000 * 2500 + 100 * 10_000) // 2 and got.row == "openai:gpt-4o@undated-50%"


@pytest.mark.ids("C5")
@pytest.mark.parametrize(
    "provider, model, wanted",
    [
        # a deployment whose response names no model
        ("azure", "support-bot", "openai:gpt-4o@undated"),
        ("azure", "SUPPORT-BOT", "openai:gpt-4o@undated"),
        ("azure", "search-eu-2", "openai:gpt-4.1-mini@undated"),
        ("openai", "support-bot", None),
        # what the response named is listed: no alias is asked
        ("azure", "gpt-4o-mini", "openai:gpt-4o-mini@undated"),
        (
            "bedrock",
            "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6",
            "aws:global.anthropic.claude-sonnet-4-5-20250929-v1:0@undated",
        ),
        ("custom", "house-model", "groq:llama-3.3-70b-versatile@undated"),
    ],
)
def test_the_response_model_comes_first_and_the_alias_second(provider: str, model: str, wanted: Optional[str]) -> None:
    profile = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/a1b2c3d4e5f6"
    rows = book(
        aliases=[
            {"provider": "azure", "model": "support-bot", "is": "gpt-4o-2024-08-06"},
            {"provider": "azure", "model": "search-*", "is": "gpt-4.1-mini"},
            {"provider": "azure", "model": "gpt-4o-mini", "is": "gpt-4"},
            {"provider": "bedrock", "model": profile, "is": "global.anthropic.claude-sonnet-4-5-20250929-v1:0"},
            {"model": "house-model", "is": "llama-3.3-70b-versatile", "is_provider": "groq"},
        ]
    )
    assert rows.price(ask(model, provider), NOW).row == wanted


def test_fees_and_long_context_of_ones_own() -> None:
    rows = book(
        prices=[
            {**OWN, "per_request": 0.01, "per_search": 0.005, "per_tool_call": 0.0025,
             "long_context": {"above_tokens": 1000, "input_per_million": 1, "output_per_million": 3}},
        ]
    )  # fmt: skip
    low = rows.price(ask("llama-70b", "corp", web_searches=2, tool_calls_billed=1), NOW)
    assert low.cost_nanousd == 500_000 + 150_000 + 10_000_000 + 10_000_000 + 2_500_000
    high = rows.price(ask("llama-70b", "corp", input_tokens=1001), NOW)
    assert high.cost_nanousd == 1001 * 1000 + 100 * 3000 + 10_000_000
    free = book(prices=[{"provider": "lab", "model": "*", "input_per_million": 0, "output_per_million": 0}])
    assert free.price(ask("anything", "lab", cache_read_input_tokens=5), NOW).cost_nanousd == 0


def test_prices_are_exactly_what_was_written() -> None:
    text = '{"version": 1, "prices": [{"model": "m", "input_per_million": 0.1, "output_per_million": 0.3}]}'
    rows = default_book().with_own(parse(text, "p.json"))
    got = rows.price({"provider": "x", "model": "m", "input_tokens": 10**9, "output_tokens": 10**9}, NOW)
    assert got.cost_nanousd == 400_000_000_000


@pytest.mark.ids("B29")
def test_the_sources_price_table_is_there_as_history() -> None:
    march = pricefile.history("aegis-2026-03")
    calculator = CostCalculator(ModelPricing(default_book().with_own(march)))
    table = {
        "gpt-4o": (2.50, 10.00, 1.25),
        "gpt-4o-mini": (0.15, 0.60, 0.075),
        "gpt-4.1": (2.00, 8.00, 0.50),
        "o3": (10.00, 40.00, 2.50),
        "claude-opus-4": (15.00, 75.00, 1.50),
        "claude-sonnet-4": (3.00, 15.00, 0.30),
        "gemini-2.5-pro": (1.25, 10.00, 0.3125),
        "gemini-2.5-flash": (0.15, 0.60, 0.0375),
    }
    million = 1_000_000
    for model, (into, out, cached) in table.items():
        at = {"at_ms": NOW}
        assert calculator.calculate_request_cost(model=model, input_tokens=million, output_tokens=0, **at) == into
        assert calculator.calculate_request_cost(model=model, input_tokens=0, output_tokens=million, **at) == out
        got = calculator.calculate_breakdown(
            model=model, input_tokens=million, output_tokens=0, cache_read_input_tokens=million, **at
        )
        assert (got.cost_usd, got.row) == (cached, "own:%s@2026-03-01" % model)
    # the source's own example of a name with its date
    assert calculator.calculate_breakdown(
        model="claude-sonnet-4-20250514", input_tokens=1, output_tokens=0, at_ms=NOW
    ).row == "own:claude-sonnet-4@2026-03-01"  # fmt: skip
    # before March it says nothing, and other models keep the book's price
    before = calculator.calculate_breakdown(model="o3", input_tokens=1, output_tokens=0, at_ms=START)
    assert before.row == "openai:o3@2025-06-10"
    # o3 cost a fifth of that since June 2025: history is what was charged then, never the default
    assert default_book().price(ask("o3", "openai"), NOW).row == "openai:o3@2025-06-10"


PRICE = {"model": "m", "input_per_million": 1}


@pytest.mark.ids("C7")
@pytest.mark.parametrize(
    "content, line, key, remedy",
    [
        ({}, 1, "version", 'write "version": 1'),
        ({"version": 2}, 2, "version", 'write "version": 1'),
        ({"version": "1"}, 2, "version", 'write "version": 1'),
        ({"version": 1, "price": []}, 3, "price", "did you mean prices?"),
        ({"version": 1, "prices": {}}, 3, "prices", "must be a list"),
        ({"version": 1, "prices": [{"model": "m", "input_per_milion": 1}]}, 6, "prices[0].input_per_milion",
         "did you mean input_per_million?"),
        ({"version": 1, "prices": [{**PRICE, "input_per_million": -1}]}, 6, "prices[0].input_per_million", "0 or more"),
        ({"version": 1, "prices": [{**PRICE, "input_per_million": "free"}]}, 6, "prices[0].input_per_million", ""),
        ({"version": 1, "prices": [{**PRICE, "input_per_million": True}]}, 6, "prices[0].input_per_million", ""),
        ({"version": 1, "prices": [{**PRICE, "input_per_million": None}]}, 6, "prices[0].input_per_million", ""),
        ({"version": 1, "prices": [{**PRICE, "input_per_million": 1e-7}]}, 6, "prices[0].input_per_million", ""),
        ({"version": 1, "prices": [{"input_per_million": 1}]}, 4, "prices[0]", "needs model"),
        ({"version": 1, "prices": [{"model": "m"}]}, 4, "prices[0]", "0 if it is free"),
        ({"version": 1, "prices": [PRICE, PRICE]}, 8, "prices[1]", "same again as line 4"),
        ({"version": 1, "prices": [{**PRICE, "from": "2026-13-01"}]}, 7, "prices[0].from", "YYYY-MM-DD"),
        ({"version": 1, "prices": [{**PRICE, "from": 2026}]}, 7, "prices[0].from", "YYYY-MM-DD"),
        ({"version": 1, "prices": [{**PRICE, "from": "2026-02-01", "until": "2026-02-01"}]}, 8, "prices[0].until",
         "first day that is no longer meant"),
        ({"version": 1, "prices": [{**PRICE, "provider": "OpenAI"}]}, 7, "prices[0].provider", "as receipts have it"),
        ({"version": 1, "prices": [{**PRICE, "base_url": "https://x.test"}]}, 7, "prices[0].base_url", "base_urls"),
        ({"version": 1, "prices": [{**PRICE, "model": ""}]}, 5, "prices[0].model", "a model's name"),
        ({"version": 1, "prices": [{**PRICE, "long_context": {"above_tokens": 0}}]}, 8,
         "prices[0].long_context.above_tokens", "whole number"),
        ({"version": 1, "prices": [{**PRICE, "long_context": {"above_tokens": 5, "output_per_million": 1}}]}, 9,
         "prices[0].long_context.output_per_million", "below the threshold"),
        ({"version": 1, "aliases": [{"model": "m"}]}, 4, "aliases[0]", "needs is"),
        ({"version": 1, "discounts": [{"percent": 0}]}, 5, "discounts[0].percent", "above 0"),
        ({"version": 1, "discounts": [{"percent": 101}]}, 5, "discounts[0].percent", "up to 100"),
        ({"version": 1, "discounts": [{}]}, 4, "discounts[0]", "needs percent"),
        ({"version": 1, "base_urls": {"corp": "x"}}, 4, "base_urls.corp", "https://host/path"),
    ],
)  # fmt: skip
def test_every_mistake_has_file_line_key_and_remedy(content: Any, line: int, key: str, remedy: str) -> None:
    with pytest.raises(BadPriceFile) as caught:
        parse(json.dumps(content, indent=1), "/etc/prices.json")
    assert "/etc/prices.json:%d: %s: " % (line, key) in str(caught.value), str(caught.value)
    assert remedy in str(caught.value)


@pytest.mark.parametrize(
    "text, line",
    [
        ("", 1),
        ("[", 1),
        ('{"version": 1,\n}', 2),
        ('{"version": 1,\n "version": 1}', 2),
        ('{"version": 1}\nx', 2),
        ("{'version': 1}", 1),
        ('{"version": NaN}', 1),
        ('{"version": 01}', 1),
        ('{"a":' * 100, 1),
        ('\n\n{"version": "a\nb"}', 3),
    ],
)
def test_what_is_not_json_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(BadPriceFile) as caught:
        parse(text, "prices.json")
    assert str(caught.value).startswith("prices.json:%d: file: not JSON" % line)


def test_several_mistakes_are_told_at_once() -> None:
    with pytest.raises(BadPriceFile) as caught:
        parse(json.dumps({"version": 1, "prices": [{"model": "m", "a": 1, "b": 2}], "z": 1}), "p.json")
    assert len(caught.value.mistakes) == 4  # a, b, no price at all, z


def test_yaml_says_the_same_with_its_own_lines(tmp_path: Path) -> None:
    pytest.importorskip("yaml", reason="PyYAML comes with the extra guard")
    path = tmp_path / "prices.yaml"
    path.write_text(
        "version: 1\nprices:\n  - provider: corp  # ours\n    model: llama-70b\n    from: 2026-01-01\n"
        "    input_per_million: 0.10\n    output_per_million: 1.5\n",
        "utf-8",
    )
    rows = default_book().with_own(pricefile.load(str(path)))
    got = rows.price(ask("llama-70b", "corp"), NOW)
    assert (got.cost_nanousd, got.row) == (250_000, "own:corp/llama-70b@2026-01-01")
    path.write_text("version: 1\nprices:\n  - model: m\n    input_per_millon: 1\n", "utf-8")
    with pytest.raises(BadPriceFile, match=r"prices.yaml:4: prices\[0\].input_per_millon: is not known"):
        pricefile.load(str(path))
    path.write_text("version: 1\n  prices: [\n", "utf-8")
    with pytest.raises(BadPriceFile, match=r"prices.yaml:2: file: not YAML"):
        pricefile.load(str(path))


def test_yaml_without_pyyaml_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "yaml", None)
    with pytest.raises(BadPriceFile, match=r"p.yaml:1: file: YAML needs PyYAML"):
        parse("version: 1", "p.yaml", yaml=True)


def test_a_file_is_read_from_disk(tmp_path: Path) -> None:
    path = tmp_path / "prices.json"
    path.write_text('\ufeff{"version": 1, "prices": [{"model": "m", "input_per_million": 1}]}', "utf-8")
    assert pricefile.load(str(path)).source == "prices.json"
    path.write_bytes(b'{"version": 1,\n "x": "\xff"}')
    with pytest.raises(BadPriceFile, match="2: file: is not UTF-8"):
        pricefile.load(str(path))
    with pytest.raises(OSError):
        pricefile.load(str(tmp_path / "none.json"))
