"""What batches and media cost: priced where a row says how, unpriced (never wrong) otherwise."""

from __future__ import annotations

import json
import pathlib
from typing import Any, Dict

import pytest

import aicostguard.pricing
from aicostguard.metering.batches import BANDS, Sums
from aicostguard.pricing import price
from aicostguard.pricing.book import PriceBook
from aicostguard.pricing.rates import thresholds
from aicostguard.receipt import FIELDS
from aicostguard.usage import Reading, Usage

DATA = json.loads((pathlib.Path(aicostguard.pricing.__file__).parent / "data" / "prices.json").read_text())
AT = 1_795_000_000_000  # 2026-11-18


def book(**prices: Any) -> PriceBook:
    rows: Dict[str, Any] = {"prices": [[None, prices["standard"]]]}
    if "batch" in prices:
        rows["variants"] = [[{"processing": "batch"}, None, prices["batch"]]]
    models = {"names": {"m": "m"}, "models": {"m": rows}}
    return PriceBook({"schema": 1, "source": "s", "version": "1", "date": "2026-11-22", "books": {"google": models}})


def cost(receipt: Dict[str, Any]) -> Any:
    return price({"provider": "openai", **receipt}, AT)


def test_every_threshold_of_the_book_is_an_edge_of_a_band() -> None:
    """Answers of a batch are added up only between two edges; a threshold inside a band would price some wrong."""
    found = {
        start
        for content in DATA["books"].values()
        for model in content["models"].values()
        for prices in [*(row[1] for row in model["prices"]), *(row[2] for row in model.get("variants", ()))]
        for start in thresholds(prices)
    }
    assert found and found <= set(BANDS)


@pytest.mark.ids("B12")
def test_a_batch_of_more_tokens_than_a_receipt_holds_is_several_receipts() -> None:
    """Nothing of a sum is left out because a receipt has no room for it."""
    most = FIELDS["input_tokens"].most
    sums = Sums()
    for input_tokens in (most - 600_000, 600_000, 1_000_000, most + 1):
        sums.add(Reading("m", Usage(input_tokens=input_tokens, output_tokens=3)))
    found = [reading.usage for reading in sums.readings() if reading.usage is not None]
    assert sorted((u.input_tokens, u.output_tokens, u.requests_billed) for u in found) == [
        (1_000_000, 3, None),
        (most, 6, 2),
        (most + 1, 3, None),
    ]


@pytest.mark.ids("C2", "C3")
def test_a_batch_is_priced_by_the_size_of_its_requests() -> None:
    """A thousand small requests are not one of long context, whatever they add up to."""
    standard, half = {"input": ["2", [200000, "4"]], "output": "8"}, {"input": ["1", [200000, "2"]], "output": "4"}
    prices = book(standard=standard, batch=half)
    batch = {"provider": "google", "model": "m", "operation": "batch", "output_tokens": 0}
    small = prices.price({**batch, "input_tokens": 200_000_000, "requests_billed": 1000}, AT)
    assert small.cost_nanousd == 200 * 10**9
    large = prices.price({**batch, "input_tokens": 200_001_000, "requests_billed": 1000}, AT)
    assert large.cost_nanousd == 2 * 200_001 * 10**6
    mean = prices.price({**batch, "input_tokens": 200_000 * 3 + 1, "requests_billed": 3}, AT)  # one of them is above
    assert mean.cost_nanousd == 2 * 600_001 * 1000


@pytest.mark.ids("C4")
def test_media_are_priced_by_what_their_row_charges() -> None:
    assert cost({"model": "tts-1", "operation": "audio", "characters": 1000}).cost_nanousd == 15_000_000
    assert cost({"model": "whisper-1", "operation": "audio", "audio_ms": 60_000}).cost_nanousd == 6_000_000
    voxtral = {"provider": "mistral", "model": "voxtral-mini-2602", "operation": "audio", "audio_ms": 3_600_000}
    assert cost({**voxtral, "input_tokens": 400, "output_tokens": 30}).cost_nanousd == 180_000_000
    image = {"model": "gpt-image-1.5", "operation": "image", "input_tokens": 100, "output_tokens": 1000}
    assert cost({**image, "input_image_tokens": 60, "output_image_tokens": 1000}).cost_nanousd == (
        40 * 5_000 + 60 * 8_000 + 1000 * 32_000
    )


@pytest.mark.ids("C4", "C6")
@pytest.mark.parametrize(
    "receipt",
    [
        {"model": "gpt-image-1", "operation": "image", "images": 1},
        {"model": "dall-e-3", "operation": "image", "images": 1},
        {"model": "gpt-4o-mini-tts", "operation": "audio", "characters": 100},
        {"model": "whisper-1", "operation": "audio", "usage_missing": True},
        {"model": "sora-2", "operation": "image", "video_ms": 8000},
        {"provider": "mistral", "model": "mistral-ocr-2512", "usage_missing": True},
        {"provider": "groq", "model": "whisper-large-v3", "operation": "batch", "audio_ms": 9000, "requests_billed": 2},
    ],
)  # fmt: skip
def test_what_no_row_can_price_is_unpriced(receipt: Dict[str, Any]) -> None:
    found = cost(receipt)
    assert found.cost_nanousd is None and found.reason
