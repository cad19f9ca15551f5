"""The quick way and the slow way give the same cost, terms and reasons, over every model of the book."""

from __future__ import annotations

import random
from typing import Any, Dict

import pytest

from aicostguard.pricing import PriceBook, charge, default_book, quick
from aicostguard.pricing.rates import Rate, Rates
from tests.pricing.test_ceiling import TIMES, usage


def test_both_ways_agree_over_every_model(monkeypatch: pytest.MonkeyPatch) -> None:
    seed = random.Random(20261130)
    book = default_book()
    asked = []
    for provider, content in book._books.items():
        for model in content["models"]:
            for _ in range(4):
                counts: Dict[str, Any] = usage(seed, seed.choice((100, 250_000)), 5000)
                if seed.random() < 0.2:  # parts that exceed their whole, classes without their whole
                    counts[seed.choice(sorted(counts))] = seed.randrange(300_000)
                if seed.random() < 0.2:
                    del counts[seed.choice(sorted(counts))]
                if seed.random() < 0.2:
                    counts[seed.choice(("web_searches", "tool_calls_billed", "requests_billed"))] = seed.randrange(1, 4)
                special = sorted(counts.keys() & charge.SPECIAL)
                if special and seed.random() < 0.2:  # no count is below zero; who sends one gets no price for it
                    counts[seed.choice(special)] = -seed.randrange(1, 9)
                asked.append(({"provider": provider, "model": model, **counts}, seed.choice(TIMES)))
    quickly = [(book.price(*ask), book.cost(*ask)) for ask in asked]
    taken = []
    made = quick.steps_of

    def none(*given: Any) -> None:
        if made(*given) is not None:
            taken.append(given)

    monkeypatch.setattr(quick, "steps_of", none)
    slow = default_book().with_own(None)
    for ask, (full, bare) in zip(asked, quickly):
        wanted = slow.price(*ask)
        assert full == wanted, ask
        assert bare == wanted._replace(parts=()), ask
    assert len(taken) > 400, "the quick way is not asked"


def test_a_flood_of_kinds_does_not_grow_without_bound() -> None:
    rows = {"m": {"prices": [[None, {"input": "1", "output": "1"}]]}}
    head = {"schema": 1, "source": "test", "version": "1", "date": "2026-11-29"}
    book = PriceBook({**head, "books": {"openai": {"names": {"m": "m"}, "models": rows}}})
    for number in range(2000):
        ask = {
            "provider": "openai",
            "model": "m",
            "input_tokens": 9,
            "output_tokens": 1,
            "web_searches": 0,
            "x%d" % number: 1,
        }
        book.price(ask, 0)
    tiers = next(iter(book._plans.values()))
    assert not isinstance(tiers, str) and tiers.only is not None
    assert len(tiers.only.rates[0].kinds) <= 512


def test_cached_audio_is_taken_off_once_by_both() -> None:
    ask = {"provider": "openai", "model": "gpt-realtime", "input_tokens": 1000, "output_tokens": 10}
    ask.update(cache_read_input_tokens=300, input_audio_tokens=500, cache_read_audio_tokens=200)
    book = default_book()
    full = book.price(ask, TIMES[0])
    assert {part[0]: part[1] for part in full.parts}["input"] == 400
    assert book.cost(ask, TIMES[0]).cost_nanousd == full.cost_nanousd == sum(part[3] for part in full.parts)


_BASE, _OTHER, _CACHED = Rate(1_000_000, "1"), Rate(500_000, "0.5"), Rate(100_000, "0.1")


@pytest.mark.parametrize("cached, cached_audio", [(_OTHER, _BASE), (_CACHED, _CACHED), (_CACHED, _OTHER)])
def test_cached_audio_is_charged_once_whatever_its_price_is_shared_with(cached: Rate, cached_audio: Rate) -> None:
    """With the input (no row of the book is like that), with cached text, and with nobody."""
    token = {"input": _BASE, "output": _OTHER, "cache_read": cached, "cache_audio_read": cached_audio}
    rates = Rates({**token, "input_audio": _OTHER}, {}, ())
    ask = {"input_tokens": 1000, "output_tokens": 10, "cache_read_input_tokens": 300}
    ask.update(input_audio_tokens=500, cache_read_audio_tokens=200)
    steps, full = quick.steps_of(rates, ask), charge.full(rates, ask)
    assert not isinstance(full, charge.Cannot)
    if steps is None:
        assert cached_audio is _BASE, "this one needs no slow way"
    else:
        assert (quick.cost(steps, ask), quick.terms(steps, ask)) == (full[0], full)
