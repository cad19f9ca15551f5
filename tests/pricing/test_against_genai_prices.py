"""The source as the measure: its rows are ours, and our cost is its cost or the difference has a name.

genai-prices (dev extra) needs CPython 3.11; the compiled book and the tests beside this one do not.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import warnings
from collections import Counter
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest

from aicostguard.pricing import BadPrice, PriceBook, default_book

genai_prices = pytest.importorskip("genai_prices", reason="genai-prices is not installed (CPython 3.11+, extra dev)")

from genai_prices.data_snapshot import get_snapshot  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
DOC = ROOT / "docs" / "pricing.md"
TIMES = tuple(
    int(datetime.fromisoformat(text).replace(tzinfo=timezone.utc).timestamp() * 1000)
    for text in ("2025-03-01T03:00", "2026-02-01T02:30", "2026-11-22T12:00", "2027-02-01T23:00")
)
THEIRS = {
    "input_tokens": "input_tokens",
    "output_tokens": "output_tokens",
    "cache_read_input_tokens": "cache_read_tokens",
    "cache_creation_input_tokens": "cache_write_tokens",
    "cache_creation_1h_input_tokens": "cache_write_1h_tokens",
    "reasoning_output_tokens": "output_reasoning_tokens",
    "input_audio_tokens": "input_audio_tokens",
    "cache_read_audio_tokens": "cache_audio_read_tokens",
    "output_audio_tokens": "output_audio_tokens",
    "input_image_tokens": "input_image_tokens",
    "output_image_tokens": "output_image_tokens",
    "input_video_tokens": "input_video_tokens",
    "web_searches": "web_searches",
}

#: a code of docs/pricing.md, "Where we differ" → how to know a case of it: (our reason's beginning, or None, …)
BY_REASON: Tuple[Tuple[str, str], ...] = (
    ("no price for model", "D1"),
    ("the price row charges", "D2"),
    ("no price for web_searches", "D3"),
    ("no price for service tier", "D4"),
    ("no price for processing", "D4"),
    ("no price for speed", "D4"),
    ("no price for input tokens", "D5"),
    ("no price for input image", "D5"),
    ("no price for input video", "D5"),
    ("no price for output audio", "D7"),
    ("no price for output image", "D7"),
    ("no price for output", "D6"),
    ("no price for cache", "D7"),
    ("no price for input audio", "D7"),
    ("cached image tokens", "D8"),
    ("cached video tokens", "D8"),
)


def models() -> Iterator[Tuple[Any, Any]]:
    for provider in get_snapshot().providers:
        for model in provider.models:
            yield provider, model


def usages(seed: random.Random) -> Iterator[Dict[str, int]]:
    """Counts whose parts fit into the whole, around every threshold and in every class."""
    out = seed.randrange(1, 5000)
    yield {"input_tokens": seed.randrange(1, 10**5), "output_tokens": out}
    whole = seed.choice((100_000, 100_001, 128_001, 199_999, 200_000, 200_001, 272_000, 272_001, 900_000))
    cached, written = seed.randrange(1, whole // 4), seed.randrange(2, whole // 4)
    yield {"input_tokens": whole, "output_tokens": out, "cache_read_input_tokens": cached}
    yield {
        "input_tokens": whole,
        "output_tokens": out,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": written,
        "cache_creation_1h_input_tokens": seed.choice((0, written // 2, written)),
    }
    yield {"input_tokens": 1001, "output_tokens": 303, "reasoning_output_tokens": 100}
    part = seed.choice(("input_audio_tokens", "input_image_tokens", "input_video_tokens"))
    yield {"input_tokens": 1001, "output_tokens": 303, part: seed.randrange(1, 1000)}
    part = seed.choice(("output_audio_tokens", "output_image_tokens"))
    yield {"input_tokens": 1001, "output_tokens": 303, part: seed.randrange(1, 300)}
    yield {
        "input_tokens": 5000,
        "output_tokens": 10,
        "cache_read_input_tokens": 900,
        "input_audio_tokens": 700,
        "cache_read_audio_tokens": 300,
    }
    yield {"input_tokens": 50, "output_tokens": 10, "web_searches": 3}


def their_cost(provider: Any, model: Any, usage: Dict[str, int], at_ms: int, context: Dict[str, str]) -> Optional[int]:
    """Nano-dollars as genai-prices has them, rounded as ours; None when it refuses the usage."""
    when = datetime.fromtimestamp(at_ms / 1000, timezone.utc)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            got = model.calc_price(
                genai_prices.Usage(**{THEIRS[key]: value for key, value in usage.items()}),
                provider,
                genai_request_timestamp=when,
                price_context=context or None,
            )
        except ValueError:
            return None
    return int((got.total_price * 10**9).to_integral_value("ROUND_HALF_EVEN"))


def difference(provider: str, model: str, usage: Dict[str, int], reason: Optional[str]) -> Optional[str]:
    if reason is not None:
        return next((code for text, code in BY_REASON if reason.startswith(text)), None)
    if usage.get("cache_creation_1h_input_tokens") and "claude" in model:
        return "D9"
    if usage.get("cache_creation_input_tokens") and "claude" in model:
        return "D9"
    if provider in ("fireworks", "groq", "mistral") and usage.get("cache_read_input_tokens"):
        return "D10"
    return None


@pytest.mark.ids("C1", "C3", "C4", "C10")
def test_our_cost_is_theirs_to_the_nano_dollar_or_the_difference_is_listed() -> None:
    book, seed = default_book(), random.Random(20261122)
    equal = 0
    listed: Counter[str] = Counter()
    strange: List[Any] = []
    for provider, model in models():
        for usage in usages(seed):
            at_ms = seed.choice(TIMES)
            ours = book.price({"provider": provider.id, "model": model.id, **usage}, at_ms)
            theirs = their_cost(provider, model, usage, at_ms, {})
            if theirs is not None and ours.cost_nanousd == theirs:
                equal += 1
                continue
            code = difference(provider.id, model.id, usage, ours.reason)
            if code is None:
                strange.append((provider.id, model.id, usage, at_ms, ours, theirs))
            else:
                listed[code] += 1
    assert not strange, (len(strange), strange[:5])
    assert equal > 8000, (equal, listed)
    text = DOC.read_text("utf-8")
    assert all("| %s |" % code in text for code in listed), listed
    print("equal to the nano-dollar: %d; listed: %s" % (equal, dict(sorted(listed.items()))))


@pytest.mark.ids("C2")
def test_tiers_and_batch_agree_too() -> None:
    book, seed = default_book(), random.Random(3)
    equal = 0
    strange: List[Any] = []
    for provider, model in models():
        for tier, operation, context in (
            ("flex", None, {"service_tier": "flex"}),
            ("priority", None, {"service_tier": "priority"}),
            (None, "batch", {"processing": "batch"}),
        ):
            if not any(variant.when == context for variant in model.price_variants or ()):
                continue
            for usage in usages(seed):
                for at_ms in TIMES:
                    more = {key: value for key, value in (("service_tier", tier), ("operation", operation)) if value}
                    ours = book.price({"provider": provider.id, "model": model.id, **usage, **more}, at_ms)
                    theirs = their_cost(provider, model, usage, at_ms, context)
                    if theirs is not None and theirs == ours.cost_nanousd:
                        equal += 1
                    elif difference(provider.id, model.id, usage, ours.reason) is None:
                        strange.append((provider.id, model.id, usage, more, at_ms, ours, theirs))
    assert not strange, (len(strange), strange[:5])
    assert equal > 1500, equal


#: models of the source that have no price, and are not said to be free: unpriced, by decision (D1)
WITHOUT_A_PRICE = {
    "cerebras": 1,
    "github-copilot": 4,
    "huggingface_together": 3,
    "openrouter": 5,
}


@pytest.mark.ids("C6")
def test_every_model_of_the_source_is_priced_by_its_own_row() -> None:
    book = default_book()
    missing: Counter[str] = Counter()
    count = 0
    for provider, model in models():
        count += 1
        name = model.id.rstrip("-") if model.id.startswith("ft:") else model.id
        found = book.find(provider.id, name)
        if found is None:
            missing[provider.id] += 1
        else:
            assert found == (provider.id, model.id)
    assert missing == WITHOUT_A_PRICE
    assert count > 2000


@pytest.mark.ids("C5", "C6")
def test_no_decorated_name_leads_to_another_model_than_in_the_source() -> None:
    """Where the source knows a decorated name, we lead to the same model or to none."""
    book = default_book()
    endings = ("", "-20270131", "-2027-01-31", "-latest", "@20270131", "@default", "-001")
    wrong, same = [], 0
    for provider, _ in {id(p): (p, None) for p, _ in models()}.values():
        for name in json_names(provider.id):
            for ending in endings:
                theirs = provider.find_model(name + ending)
                ours = book.find(provider.id, name + ending)
                if theirs is None or ours is None:
                    continue
                if ours == (provider.id, theirs.id):
                    same += 1
                elif "-tts@" in name + ending:
                    assert "tts" in ours[1] and "tts" not in theirs.id  # D11
                else:
                    wrong.append((provider.id, name + ending, ours, theirs.id))
    assert same > 4000
    assert not wrong, wrong[:20]


def json_names(book: str) -> List[str]:
    content = default_book()._books.get(book)
    return [] if content is None else list(content["names"])


@pytest.mark.ids("C7")
def test_the_source_today_has_no_bad_row_and_one_would_stop_the_compilation() -> None:
    from aicostguard.ledger import compiling

    for value in (Decimal("-1"), Decimal("-0.000001"), Decimal("NaN")):
        row = type("Row", (), {})()
        row.input_mtok = value
        bad = compiling.prices(row)
        data = {"prices": [[None, bad]]}
        with pytest.raises(BadPrice):
            PriceBook(
                {
                    "schema": 1,
                    "source": "t",
                    "version": "1",
                    "date": "2026-11-22",
                    "books": {"x": {"names": {}, "models": {"m": data}}},
                }
            )


def test_the_shipped_file_is_what_the_installed_source_gives() -> None:
    shipped = json.loads((ROOT / "aicostguard" / "pricing" / "data" / "prices.json").read_text("utf-8"))
    if shipped["version"] != genai_prices.__version__:
        pytest.skip("genai-prices %s is installed, the book is of %s" % (genai_prices.__version__, shipped["version"]))
    run = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "prices"), "--check"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
