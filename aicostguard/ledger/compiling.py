"""Compiling the price table from an installed `genai-prices` (CPython 3.11+): for `scripts/prices`, which makes the
table of a release, and for `aicg price update`, which makes a newer one for a ledger.

Owns which of the source's prices and names are taken, under which keys, and what is added to them. The output is a
function of the installed version and the day it is given. What is not understood stops the compilation: a price under
an unknown key would otherwise be left out in silence.
"""

from __future__ import annotations

import json
import re
from datetime import UTC, date, datetime, time
from importlib.metadata import version
from typing import Any, Iterator

from aicostguard.pricing.book import SCHEMA
from aicostguard.pricing.names import GEOGRAPHIES


class NotUnderstood(Exception):
    """The source holds something that this release does not know; the text says what to do."""


def source() -> Any:
    """The source's types. No extra of ours brings them: ImportError where genai-prices is not installed."""
    from genai_prices import types

    return types


#: the source's price keys → ours. A key that is not here stops the compilation: it has to be understood first.
KEYS = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "input_audio_mtok": "input_audio",
    "cache_audio_read_mtok": "cache_audio_read",
    "output_audio_mtok": "output_audio",
    "input_image_mtok": "input_image",
    "cache_image_read_mtok": "cache_image_read",
    "output_image_mtok": "output_image",
    "input_video_mtok": "input_video",
    "output_reasoning_mtok": "output_reasoning",
    "output_citation_mtok": "output_citation",
    "output_video_mtok": "output_video",
    "web_searches_kcount": "web_searches",
    "rerank_searches_kcount": "search_units",
    # The tool calls that a receipt of OpenAI's counts are file searches, which is what this price is for.
    "storage_searches_kcount": "tool_calls",
    "requests_kcount": "requests",
    "input_mchars": "characters",
    "audio_hours": "audio",
    "input_document_kpages": "document_pages",
    "input_annotated_document_kpages": "annotated_document_pages",
    "input_text_messages_kcount": "text_messages",
}
#: `input_audio_hours` repeats `audio_hours`.
SKIPPED = {"input_audio_hours"}

#: Rows without a price mean "free" in the source, and also "unknown". Free are ids that say so, and these:
#: https://platform.openai.com/docs/guides/moderation, https://ai.google.dev/gemini-api/docs/pricing (Gemma)
FREE = {
    ("openai", "moderation"),
    ("google", "gemma-3"),
    ("google", "gemma-3n"),
    ("google", "gemma-4-26b-a4b-it"),
    ("google", "gemma-4-31b-it"),
}
#: Names that the source reaches only by a part of the name, spelled out; the source must agree on each.
ALIASES = {
    ("openai", "moderation"): ("omni-moderation", "text-moderation", "text-moderation-stable"),
    ("openai", "computer-use"): ("computer-use-preview",),
    ("google", "gemma-3"): ("gemma-3-1b-it", "gemma-3-4b-it", "gemma-3-12b-it", "gemma-3-27b-it"),
    ("google", "gemma-3n"): ("gemma-3n-e2b-it", "gemma-3n-e4b-it"),
    ("google", "gemini-2.5-pro"): (
        "gemini-2.5-pro-preview",
        "gemini-2.5-pro-preview-03-25",
        "gemini-2.5-pro-preview-05-06",
        "gemini-2.5-pro-preview-06-05",
    ),
    ("google", "gemini-2.5-flash-lite"): (
        "gemini-2.5-flash-lite-preview-06-17",
        "gemini-2.5-flash-lite-preview-09-2025",
    ),
    ("google", "gemini-2.0-flash-lite"): ("gemini-2.0-flash-lite-preview", "gemini-2.0-flash-lite-preview-02-05"),
    ("google", "gemini-2.0-flash"): ("gemini-2.0-flash-thinking-exp-01-21",),
    ("anthropic", "claude-2"): ("claude-2.0", "claude-2.1"),
    ("mistral", "magistral-medium"): ("magistral-medium-2506", "magistral-medium-2507", "magistral-medium-2509"),
    ("mistral", "magistral-small"): ("magistral-small-2506", "magistral-small-2507", "magistral-small-2509"),
    ("mistral", "mixtral-8x7b"): ("mixtral-8x7b-instruct",),
}
#: What the source does not list and its provider's price page does: book → model id → prices. What the source lists
#: meanwhile is the source's.
#: - Fine-tuned models, standard processing: https://developers.openai.com/api/docs/pricing#fine-tuning
#: - Rerank by the search unit, a query with up to 100 documents: https://cohere.com/pricing
SUPPLEMENT: dict[str, dict[str, dict[str, str]]] = {
    "cohere": {
        "rerank-english-v3.0": {"search_units": "2"},
        "rerank-multilingual-v3.0": {"search_units": "2"},
        "rerank-v3.5": {"search_units": "2"},
        "rerank-v4.0-fast": {"search_units": "2"},
        "rerank-v4.0-pro": {"search_units": "2.5"},
    },
    "openai": {
        "ft:babbage-002": {"input": "1.6", "output": "1.6"},
        "ft:davinci-002": {"input": "12", "output": "12"},
        "ft:gpt-4.1": {"input": "3", "output": "12", "cache_read": "0.75"},
        "ft:gpt-4.1-mini": {"input": "0.8", "output": "3.2", "cache_read": "0.2"},
        "ft:gpt-4.1-nano": {"input": "0.2", "output": "0.8", "cache_read": "0.05"},
        "ft:o4-mini": {"input": "4", "output": "16", "cache_read": "1"},
    },
}


def literals(clause: Any) -> Iterator[str]:
    """Every name or part of a name in a match rule; a pattern gives none."""
    for field in ("or_", "and_"):
        for inner in getattr(clause, field, ()):
            yield from literals(inner)
    for field in ("equals", "starts_with", "contains", "ends_with"):
        if hasattr(clause, field):
            yield getattr(clause, field)


def names_of(provider: Any) -> dict[str, str]:
    """Exact names → model id. A part of a name counts as a name only if the source resolves it to that model."""
    names: dict[str, str] = {}
    weak: dict[str, str] = {}
    for model in provider.models:
        own = model.id.lower()
        bare = own.removeprefix("regional.")
        ids = [own, own.rstrip("-"), bare, re.sub(r"-v\d:\d+$", "", bare)]
        for text in [*ids, *literals(model.match)]:
            name = text.lower().strip("/").rstrip("-@:")
            # A fine-tuned name belongs to rows of fine-tuned prices only, whatever the source's rule says.
            if not name or (name.startswith("ft:") and not own.startswith("ft:")):
                continue
            found = provider.find_model(name)
            if found is model:
                names.setdefault(name, model.id)
            elif found is None and text in ids:
                weak.setdefault(name, model.id)
    for name, model_id in weak.items():
        names.setdefault(name, model_id)
    for (book, model_id), aliases in ALIASES.items():
        for name in aliases if book == provider.id else ():
            found = provider.find_model(name)
            if found is None or found.id != model_id:
                raise NotUnderstood("the source no longer takes %s for %s:%s" % (name, book, model_id))
            names.setdefault(name, model_id)
    if provider.id == "aws":
        # "-v1:0" is decoration only where no other version of that name has a row of its own
        for name in list(names):
            version_ = re.compile(re.escape(name) + r"-v\d")
            if any(version_.match(other) and names[other] != names[name] for other in names):
                del names[name]
    return names


def when(constraint: Any) -> str | None:
    if constraint is None:
        return None
    if isinstance(constraint, source().StartDateConstraint):
        return str(constraint.start_date.isoformat())
    if isinstance(constraint, source().TimeOfDateConstraint):
        return "%s-%s" % (clock(constraint.start_time), clock(constraint.end_time))
    raise NotUnderstood("unknown condition %r" % constraint)


def clock(value: time) -> str:
    if value.tzinfo is not None:
        value = datetime.combine(date(2000, 1, 1), value).astimezone(UTC).time()
    if value.second or value.microsecond:
        raise NotUnderstood("hours to the minute expected, not %s" % value)
    return value.strftime("%H:%M")


def number(value: Any) -> str:
    """A decimal as plain text. What is not a price (negative, NaN) is passed on as it is, for the book to refuse."""
    return format(value.normalize(), "f") if value.is_finite() else str(value)


def prices(row: Any) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in row.__dict__.items():
        if value is None or key in SKIPPED:
            continue
        if key not in KEYS:
            raise NotUnderstood("unknown price key %s; add it to KEYS once it is understood" % key)
        if isinstance(value, source().TieredPrices):
            result[KEYS[key]] = [number(value.base), *([tier.start, number(tier.price)] for tier in value.tiers)]
        else:
            result[KEYS[key]] = number(value)
    return {key: result[key] for key in KEYS.values() if key in result}


def model_data(provider: Any, model: Any, names: dict[str, str]) -> dict[str, Any] | None:
    rows = model.prices if isinstance(model.prices, list) else [source().ConditionalPrice(prices=model.prices)]
    data: dict[str, Any] = {"prices": [[when(row.constraint), prices(row.prices)] for row in rows]}
    variants = [[dict(v.when), when(v.constraint), prices(v.prices)] for v in model.price_variants or ()]
    free = model.id.endswith(":free") or (provider.id, model.id) in FREE
    if not free and not any(row for _, row in data["prices"]):
        return None
    if variants:
        data["variants"] = variants
    if provider.id == "aws":
        bare = [name for name, model_id in names.items() if model_id == model.id and not name.startswith("global.")]
        geographies = [g for g in GEOGRAPHIES if any(provider.find_model(g + "." + name) is model for name in bare)]
        if geographies:
            data["geographies"] = geographies
    return data


def installed() -> str:
    """The version of the source."""
    return version("genai-prices")


def compile_books() -> dict[str, Any]:
    """The table. Raises NotUnderstood, and ImportError where genai-prices is not installed or too old."""
    from genai_prices.data_snapshot import get_snapshot

    books: dict[str, Any] = {}
    for provider in sorted(get_snapshot().providers, key=lambda p: p.id):
        names = names_of(provider)
        models = {}
        for model in sorted(provider.models, key=lambda m: m.id):
            data = model_data(provider, model, names)
            if data is not None:
                models[model.id] = data
        for model_id, row in SUPPLEMENT.get(provider.id, {}).items():
            if model_id in names:
                continue
            names[model_id] = model_id
            models[model_id] = {"prices": [[None, row]]}
        models = {model_id: models[model_id] for model_id in sorted(models)}
        names = {name: names[name] for name in sorted(names) if names[name] in models}
        if models:
            books[provider.id] = {"names": names, "models": models}
    return books


def render(books: dict[str, Any], day: str) -> str:
    def line(value: Any) -> str:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=True)

    head = '{"schema":%d,"source":"genai-prices","version":%s,"date":%s,"books":{\n'
    text = [head % (SCHEMA, line(installed()), line(day))]
    for number_, (book, content) in enumerate(books.items()):
        comma = ",\n" if number_ else ""
        text.append('%s%s:{"names":%s,\n"models":{\n' % (comma, line(book), line(content["names"])))
        text.append(",\n".join("%s:%s" % (line(model), line(data)) for model, data in content["models"].items()))
        text.append("\n}}")
    return "".join(text) + "\n}}\n"
