"""The prices file: names, prices, discounts and premiums of one's own, read strictly.

Owns the keys of the file and what may stand under each. JSON everywhere, YAML where PyYAML is installed. Nothing of a
file with a mistake is taken: every mistake is named with file, line, key and remedy. If a check here is too loose, a
wrong price is charged in silence.

    {"version": 1,
     "base_urls": {"https://llm.corp.example/v1": "corp"},
     "aliases": [{"provider": "azure", "model": "support-bot", "is": "gpt-4o-2024-08-06"}],
     "prices": [{"provider": "corp", "model": "llama-70b", "from": "2026-01-01",
                 "input_per_million": 0.5, "output_per_million": 1.5, "cached_per_million": 0.05}],
     "discounts": [{"provider": "openai", "percent": 12.5, "from": "2026-01-01", "until": "2027-01-01"}],
     "premiums": [{"provider": "vertex", "model": "gemini-*", "region": "europe-*", "percent": 10}]}

docs/pricing.md explains every key.
"""

from __future__ import annotations

import os
import re
from typing import Any, Dict, List, Mapping, NamedTuple, Optional, Tuple
from urllib.parse import urlsplit

from aicostguard.pricing.located import Located, Number, Unreadable, read
from aicostguard.pricing.own import Adjustment, Alias, Own, OwnPrice, Scope
from aicostguard.pricing.plan import day_ms
from aicostguard.pricing.rates import Factor

VERSION = 1
#: a file above this is not one that a person wrote
MAX_BYTES = 5_000_000

#: key of a price → (price key of the book, the factor that brings it into the book's unit)
PRICES: Dict[str, Tuple[str, int]] = {
    "input_per_million": ("input", 1),
    "output_per_million": ("output", 1),
    "cached_per_million": ("cache_read", 1),
    "cache_write_per_million": ("cache_write", 1),
    "cache_write_1h_per_million": ("cache_write_1h", 1),
    "reasoning_per_million": ("output_reasoning", 1),
    "input_audio_per_million": ("input_audio", 1),
    "cached_audio_per_million": ("cache_audio_read", 1),
    "output_audio_per_million": ("output_audio", 1),
    "input_image_per_million": ("input_image", 1),
    "output_image_per_million": ("output_image", 1),
    "input_video_per_million": ("input_video", 1),
    "characters_per_million": ("characters", 1),
    "audio_per_hour": ("audio", 1),
    "per_image": ("images", 1000),
    "video_per_second": ("video", 1),
    "per_request": ("requests", 1000),
    "per_search": ("web_searches", 1000),
    "per_search_unit": ("search_units", 1000),
    "per_tool_call": ("tool_calls", 1000),
}
_LONG = tuple(key for key in PRICES if key.endswith("_per_million") and key != "characters_per_million")

#: what a file consists of
_PARTS = ("version", "note", "base_urls", "aliases", "prices", "discounts", "premiums")

_PROVIDER = re.compile(r"[a-z0-9_-]{1,32}\Z")
_MODEL = re.compile(r"[A-Za-z0-9_~*][A-Za-z0-9_.:/@+~*-]{0,199}\Z")
_REGION = re.compile(r"[a-z0-9*-]{1,32}\Z")
_TIER = re.compile(r"[a-z0-9_-]{1,32}\Z")


class Mistake(NamedTuple):
    """One thing that is wrong: where, and what to do."""

    line: int
    key: str
    says: str


class BadPriceFile(ValueError):
    """A prices file that must not be used. The text has a line for each mistake: `FILE:LINE: KEY: what; remedy`."""

    def __init__(self, path: str, mistakes: List[Mistake]) -> None:
        self.path, self.mistakes = path, mistakes
        super().__init__("\n".join("%s:%d: %s: %s" % (path, *mistake) for mistake in sorted(mistakes)))


def load(path: str) -> Own:
    """The terms in a file; `.yaml` and `.yml` are YAML, everything else JSON. Raises `BadPriceFile`, `OSError`."""
    with open(path, "rb") as file:
        data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise BadPriceFile(path, [Mistake(1, "file", "is larger than %d bytes; split it" % MAX_BYTES)])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadPriceFile(path, [Mistake(line, "file", "is not UTF-8; save it as UTF-8")]) from None
    return parse(text, path, yaml=path.lower().endswith((".yaml", ".yml")))


def parse(text: str, path: str, *, yaml: bool = False) -> Own:
    """The terms in a file's text. Raises `BadPriceFile`."""
    try:
        root = read(text, yaml=yaml)
    except Unreadable as error:
        raise BadPriceFile(path, [Mistake(error.line, "file", str(error))]) from None
    reader = _Reader()
    own = reader.whole(root, os.path.basename(path))
    if reader.mistakes:
        raise BadPriceFile(path, reader.mistakes)
    return own


def history(name: str = "aegis-2026-03") -> Own:
    """A price table of the past that ships with the package, as terms: never applied unless asked for."""
    return load(os.path.join(os.path.dirname(__file__), "data", "history", name + ".json"))


class _Reader:
    def __init__(self) -> None:
        self.mistakes: List[Mistake] = []
        self.base_urls: Dict[str, str] = {}

    def wrong(self, at: Located, key: str, says: str) -> None:
        self.mistakes.append(Mistake(at.line, key, says))

    def whole(self, root: Located, name: str) -> Own:
        parts = self.members(root, "file", _PARTS)
        version = parts.get("version")
        if version is None or version.value != str(VERSION) or not isinstance(version.value, Number):
            self.wrong(version or root, "version", 'must be there and %d: write "version": %d' % (VERSION, VERSION))
        for url, at in self.members(parts.get("base_urls"), "base_urls").items():
            provider = self.text(at, "base_urls." + url, _PROVIDER, "a provider's name in small letters, such as corp")
            if urlsplit(url).scheme not in ("http", "https") or not urlsplit(url).hostname:
                self.wrong(at, "base_urls." + url, "is no address; use https://host/path")
            self.base_urls[url] = provider or ""
        aliases = [self.alias(row, key) for row, key in self.rows(parts.get("aliases"), "aliases")]
        prices = [self.price(row, key) for row, key in self.rows(parts.get("prices"), "prices")]
        seen: Dict[Tuple[Any, ...], int] = {}
        for price, (row, key) in zip(prices, self.rows(parts.get("prices"), "prices", quiet=True)):
            same = (price.scope._replace(end=None), price.tier, price.batch)
            if same in seen:
                self.wrong(row, key, "says the same again as line %d; take one out, or give each a from" % seen[same])
            seen.setdefault(same, row.line)
        adjustments = [
            self.adjustment(row, key, up)
            for kind, up in (("discounts", False), ("premiums", True))
            for row, key in self.rows(parts.get(kind), kind)
        ]
        return Own(aliases, prices, adjustments, self.base_urls, name)

    def alias(self, row: Located, key: str) -> Alias:
        parts = self.members(row, key, ("provider", "base_url", "model", "is", "is_provider", "note"), ("model", "is"))
        host = parts.get("is_provider")
        return Alias(
            self.provider(parts, key),
            (self.text(parts.get("model"), key + ".model", _MODEL, "a deployment's or profile's name") or "").lower(),
            self.text(parts.get("is"), key + ".is", _MODEL, "the name of a listed model") or "",
            self.text(host, key + ".is_provider", _PROVIDER, "a provider's name") if host else None,
        )

    def price(self, row: Located, key: str) -> OwnPrice:
        known = (*_SCOPE, "service_tier", "batch", "long_context", *PRICES)
        parts = self.members(row, key, known, ("model",))
        prices: Dict[str, Any] = {}
        for name, (into, factor) in PRICES.items():
            if name in parts:
                prices[into] = self.dollars(parts[name], key + "." + name, factor)
        if not prices and row.value:
            self.wrong(row, key, "has no price; give input_per_million and output_per_million, 0 if it is free")
        if "long_context" in parts:
            self.long_context(parts["long_context"], key + ".long_context", prices)
        tier = parts.get("service_tier")
        return OwnPrice(
            self.scope(parts, key),
            prices,
            self.text(tier, key + ".service_tier", _TIER, "a tier's name, such as flex") if tier else None,
            self.flag(parts.get("batch"), key + ".batch", False),
        )

    def long_context(self, at: Located, key: str, prices: Dict[str, Any]) -> None:
        parts = self.members(at, key, ("above_tokens", *_LONG), ("above_tokens",))
        above = parts.get("above_tokens")
        number = 0
        if above is not None:
            if not isinstance(above.value, Number) or not above.value.isdigit() or int(above.value) < 1:
                self.wrong(above, key + ".above_tokens", "must be a whole number of input tokens, such as 200000")
            else:
                number = int(above.value)
        for name in _LONG:
            if name in parts:
                into = PRICES[name][0]
                if into not in prices:
                    self.wrong(parts[name], key + "." + name, "has no price below the threshold; give that, too")
                prices[into] = [prices.get(into, "0"), [number, self.dollars(parts[name], key + "." + name, 1)]]

    def adjustment(self, row: Located, key: str, premium: bool) -> Adjustment:
        parts = self.members(row, key, (*_SCOPE, "percent", "fees"), ("percent",))
        times, shown = self.percent(parts.get("percent"), key + ".percent", premium)
        fees = self.flag(parts.get("fees"), key + ".fees", not premium)
        return Adjustment(self.scope(parts, key), times, ("+%s%%" if premium else "-%s%%") % shown, fees)

    def scope(self, parts: Mapping[str, Located], key: str) -> Scope:
        model, region = parts.get("model"), parts.get("region")
        start, end = self.day(parts.get("from"), key + ".from"), self.day(parts.get("until"), key + ".until")
        if start is not None and end is not None and end <= start:
            self.wrong(parts["until"], key + ".until", "is not after from; it is the first day that is no longer meant")
        return Scope(
            self.provider(parts, key),
            (self.text(model, key + ".model", _MODEL, "a model's name; * for any characters") or "*").lower()
            if model
            else "*",
            self.text(region, key + ".region", _REGION, "a region as receipts have it; * for any") if region else None,
            start,
            end,
            parts["from"].value if start is not None else None,
        )

    def provider(self, parts: Mapping[str, Located], key: str) -> Optional[str]:
        at, url = parts.get("provider"), parts.get("base_url")
        if at is not None and url is not None:
            self.wrong(url, key + ".base_url", "stands beside provider; give one of them")
        if url is not None:
            found = self.base_urls.get(url.value) if isinstance(url.value, str) else None
            if found is None:
                self.wrong(url, key + ".base_url", "is not listed under base_urls; add it there with a provider's name")
            return found
        return self.text(at, key + ".provider", _PROVIDER, "a provider's name as receipts have it") if at else None

    # The kinds of values.

    def members(
        self, at: Optional[Located], key: str, known: Tuple[str, ...] = (), required: Tuple[str, ...] = ()
    ) -> Mapping[str, Located]:
        if at is None:
            return {}
        if not isinstance(at.value, dict):
            self.wrong(at, key, "must be an object with names and values")
            return {}
        for name, value in at.value.items():
            if known and name not in known:
                self.wrong(value, name if key == "file" else key + "." + name, "is not known; " + _meant(name, known))
        for name in required:
            if name not in at.value:
                self.wrong(at, key, "needs %s" % name)
        found: Mapping[str, Located] = at.value
        return found

    def rows(self, at: Optional[Located], key: str, quiet: bool = False) -> List[Tuple[Located, str]]:
        if at is None:
            return []
        if not isinstance(at.value, list):
            if not quiet:
                self.wrong(at, key, "must be a list")
            return []
        return [(row, "%s[%d]" % (key, number)) for number, row in enumerate(at.value)]

    def text(self, at: Optional[Located], key: str, pattern: re.Pattern[str], expected: str) -> Optional[str]:
        if at is None:
            return None
        if not isinstance(at.value, str) or isinstance(at.value, Number) or not pattern.match(at.value):
            self.wrong(at, key, "%s is not usable here; use %s" % (_shown(at.value), expected))
            return None
        return at.value

    def flag(self, at: Optional[Located], key: str, default: bool) -> bool:
        if at is None:
            return default
        if not isinstance(at.value, bool):
            self.wrong(at, key, "%s is neither true nor false" % _shown(at.value))
            return default
        return at.value

    def day(self, at: Optional[Located], key: str) -> Optional[int]:
        if at is None:
            return None
        found = day_ms(at.value) if isinstance(at.value, str) else None
        if found is None:
            self.wrong(at, key, "%s is no day; use YYYY-MM-DD, the day begins at midnight UTC" % _shown(at.value))
        return found

    def dollars(self, at: Located, key: str, factor: int) -> str:
        from decimal import Decimal

        text = self.number(at, key, "US dollars, 0 or more, such as 2.5")
        return "0" if text is None else _plain(Decimal(text) * factor)

    def percent(self, at: Optional[Located], key: str, premium: bool) -> Tuple[Factor, str]:
        from decimal import Decimal
        from fractions import Fraction

        text = None if at is None else self.number(at, key, "a number above 0" + ("" if premium else ", 100 at most"))
        if at is None or text is None:
            return (1, 1), "0"
        share = Fraction(text) / 100
        if not 0 < share <= (100 if premium else 1):
            kind = "premium" if premium else "discount up to 100"
            self.wrong(at, key, "%s is no %s; use a number above 0" % (text, kind))
        times = 1 + share if premium else 1 - min(share, Fraction(1))
        return (times.numerator, times.denominator), _plain(Decimal(text))

    def number(self, at: Located, key: str, expected: str) -> Optional[str]:
        """The text of a number of 0 or more with at most 9 digits before the point and 12 behind; else None."""
        text = at.value if isinstance(at.value, str) else ""
        if not isinstance(at.value, bool) and re.match(r"\d{1,9}(\.\d{1,12})?\Z", text):
            return text
        self.wrong(at, key, "%s is not usable here; use %s" % (_shown(at.value), expected))
        return None


#: keys that say which calls are meant
_SCOPE = ("provider", "base_url", "model", "region", "from", "until", "note")


def _plain(number: Any) -> str:
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def _shown(value: Any) -> str:
    return repr(str(value)[:60]) if isinstance(value, str) else "this"


def _meant(name: str, known: Tuple[str, ...]) -> str:
    import difflib

    close = difflib.get_close_matches(name, known, 1)
    return "did you mean %s?" % close[0] if close else "known are " + ", ".join(known)
