"""What one row of the price book charges for each class of token and each unit.

Owns the price keys, their units, the checks that refuse a bad price, and the rules for classes that a row does not
name. Exact: a price is kept as its decimal text and becomes an integer of femto-dollars (1e-15) per unit, or a fraction
where a decimal does not divide. Never a float. If a fallback here is wrong, a class is charged at another's rate.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Set, Tuple, Union

if TYPE_CHECKING:
    from fractions import Fraction

Exact = Union[int, "Fraction"]
Factor = Tuple[int, int]

FEMTO = 10**15

#: price keys of token classes, per million tokens
TOKEN_KEYS = (
    "input",
    "output",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "input_audio",
    "cache_audio_read",
    "output_audio",
    "input_image",
    "cache_image_read",
    "output_image",
    "input_video",
    "output_reasoning",
)


class Unit(NamedTuple):
    """A price that is not per token: how many of the receipt's units it is for, and how a person reads it."""

    per: int
    text: str


#: prices per use. A receipt counts audio and video in milliseconds. The book has no row by the image or the second of
#: video, for these depend on size and quality; a user's own prices may have one.
UNIT_KEYS: Dict[str, Unit] = {
    "web_searches": Unit(1000, "1,000 searches"),
    "requests": Unit(1000, "1,000 requests"),
    "search_units": Unit(1000, "1,000 search units"),
    "tool_calls": Unit(1000, "1,000 tool calls"),
    "characters": Unit(1_000_000, "1,000,000 characters"),
    "audio": Unit(3_600_000, "hour of audio"),
    "images": Unit(1000, "1,000 images"),
    "video": Unit(1000, "second of video"),
}
#: prices for counts that a receipt does not carry: a row with one of them would be charged too low
UNCOUNTED_KEYS: Dict[str, str] = {
    "output_citation": "citation tokens",
    "output_video": "video output tokens",
    "document_pages": "document pages",
    "annotated_document_pages": "annotated document pages",
    "text_messages": "text messages",
}
KEYS: FrozenSet[str] = frozenset(TOKEN_KEYS) | frozenset(UNIT_KEYS) | frozenset(UNCOUNTED_KEYS)

#: (class, the class whose rate it has when the row names none, books where that is so; None: all)
#: - Images and video in the prompt become input tokens; only rows that name a rate differ. Audio is dearer nearly
#:   everywhere, so it falls back only at Google, whose rows name audio where it differs
#:   (https://ai.google.dev/gemini-api/docs/pricing: "text / image / video / audio").
#: - Output: speech and image models of Google, image models of OpenAI list the rate of what they make as the output
#:   rate (https://developers.openai.com/api/docs/pricing). Reasoning is output everywhere.
#: - Cached input without a cached price is full price at OpenAI and Azure ("-" in the table), Google and Cerebras
#:   (https://inference-docs.cerebras.ai/capabilities/prompt-caching). Elsewhere it is discounted by an unknown amount.
#: - Cache writes are plain input at OpenAI, Azure, xAI and Groq unless the row has a price for them.
FALLBACKS: Tuple[Tuple[str, str, Optional[FrozenSet[str]]], ...] = (
    ("cache_read", "input", frozenset(("openai", "azure", "google", "cerebras"))),
    ("cache_write", "input", frozenset(("openai", "azure", "x-ai", "groq"))),
    ("input_audio", "input", frozenset(("google",))),
    ("input_image", "input", None),
    ("input_video", "input", None),
    ("output_reasoning", "output", None),
    ("output_audio", "output", frozenset(("google",))),
    ("output_image", "output", frozenset(("google", "openai"))),
)
#: Cohere has a price for the images of an embedding that its rows do not name: https://cohere.com/pricing
APART = frozenset((("input_image", "cohere"),))
#: (class, base class, numerator, denominator, book or None, part of the model's id, what a person reads)
#: Anthropic: writes kept 5 minutes are 1.25 x input, an hour 2 x, on every Claude and every cloud
#: (https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing).
#: Fireworks: cached input is half unless the model lists another price
#: (https://docs.fireworks.ai/faq-new/billing-pricing/is-prompt-caching-billed-differently); at Groq half
#: (https://console.groq.com/docs/prompt-caching), at Mistral a tenth
#: (https://docs.mistral.ai/studio-api/conversations/advanced/prompt-caching).
DERIVED: Tuple[Tuple[str, str, int, int, Optional[str], str, str], ...] = (
    ("cache_write", "input", 5, 4, None, "claude", "1.25 x input"),
    ("cache_write_1h", "input", 2, 1, None, "claude", "2 x input"),
    ("cache_read", "input", 1, 2, "fireworks", "", "0.5 x input"),
    ("cache_read", "input", 1, 2, "groq", "", "0.5 x input"),
    ("cache_read", "input", 1, 10, "mistral", "", "0.1 x input"),
)

_DECIMAL = re.compile(r"\d{1,9}(\.\d{1,20})?\Z")


#: the book of a user's own rows (`own.OWN`): a class they do not name costs what the class it belongs to costs
_OWN = "own"


class BadPrice(ValueError):
    """A row that must not be used; the text names the row, the key and the value."""


class Rate(NamedTuple):
    """Femto-dollars for one of the receipt's units, and the price as its provider writes it."""

    femto: Exact
    text: str


class Scale(NamedTuple):
    """Factors on what a row charges, and what a person reads of them.

    `note` stands behind the price of a token, `fee_note` behind that of a use, `suffix` behind the row's id.
    """

    token: Factor = (1, 1)
    fee: Factor = (1, 1)
    note: str = ""
    fee_note: str = ""
    suffix: str = ""


AS_LISTED = Scale()


class Rates:
    """What one row charges, with fallbacks applied.

    `token` and `unit` hold rates by price key; a class that shares its base's rate object is charged with its base.
    `uncounted` names what the row charges and no receipt counts. `free` is a row that has no price because its
    provider asks for none. `usual` is `(input, output, cached input or None)` in femto-dollars, for a row by which
    these are all that most receipts are charged for; None for other rows.
    """

    __slots__ = ("token", "unit", "uncounted", "free", "input", "output", "usual", "kinds")

    def __init__(self, token: Dict[str, Rate], unit: Dict[str, Rate], uncounted: Tuple[str, ...]) -> None:
        self.token = token
        self.unit = unit
        self.uncounted = uncounted
        self.free = not (token or unit or uncounted)
        self.input = token.get("input")
        self.output = token.get("output")
        #: kept by `quick`: keys of a receipt → how such receipts are priced
        self.kinds: Dict[Tuple[str, ...], Any] = {}
        self.usual: Optional[Tuple[Exact, Exact, Optional[Exact]]] = None
        if self.input and self.output and not uncounted and "requests" not in unit:
            cached = token.get("cache_read")
            self.usual = (self.input.femto, self.output.femto, cached.femto if cached else None)


def exact(price: str, scale: int, per: int) -> Exact:
    """`price * scale / per` of a checked decimal text: an int where it divides (ten times as fast), else a Fraction."""
    digits, _, decimals = price.partition(".")
    above = int(digits + decimals) * scale
    below: int = 10 ** len(decimals) * per
    value, rest = divmod(above, below)
    if not rest:
        return value
    from fractions import Fraction  # rare, and its import costs 4 ms

    return Fraction(above, below)


def check_prices(prices: Any, where: str, good: Set[str]) -> None:
    """Refuse a mapping of prices with an unknown key, a bad value or thresholds out of order. Raises BadPrice.

    `good` remembers the texts that were found to be prices: a book repeats some hundred of them ten thousand times.
    """
    if type(prices) is not dict:
        raise BadPrice("%s: prices must be an object" % where)
    if not prices.keys() <= KEYS:
        raise BadPrice("%s: not a price key: %s" % (where, ", ".join(sorted(prices.keys() - KEYS))))
    for key, value in prices.items():
        if type(value) is str:
            if value not in good:
                _check_decimal(value, where, key, good)
            continue
        if type(value) is not list or len(value) < 2:
            form = 'text such as "2.5", or [base, [threshold, price], …]'
            raise BadPrice("%s.%s: %r is not a price (%s)" % (where, key, value, form))
        _check_decimal(value[0], where, key, good)
        last = 0
        for tier in value[1:]:
            if type(tier) is not list or len(tier) != 2 or type(tier[0]) is not int or tier[0] <= last:
                raise BadPrice("%s.%s: thresholds must be whole numbers that rise" % (where, key))
            last = tier[0]
            _check_decimal(tier[1], where, key, good)


def _check_decimal(value: Any, where: str, key: str, good: Set[str]) -> None:
    if type(value) is not str or not _DECIMAL.match(value):
        raise BadPrice('%s.%s: %r is not a price (a decimal text of 0 or more, such as "2.5")' % (where, key, value))
    good.add(value)


def thresholds(prices: Mapping[str, Any]) -> List[int]:
    """Every input size at which some price of the row changes, rising."""
    return sorted({tier[0] for value in prices.values() if type(value) is list for tier in value[1:]})


def build(book: str, model: str, prices: Mapping[str, Any], above: Optional[int], scale: Scale = AS_LISTED) -> Rates:
    """The rates of a checked row for requests whose input is above the threshold `above` (None: the lowest tier)."""
    flat = {key: _at(value, above) for key, value in prices.items()}
    token: Dict[str, Rate] = {}
    for key in TOKEN_KEYS:
        if key in flat:
            token[key] = _token_rate(flat[key], scale)
    for key, base, up, down, where, part, text in DERIVED:
        if key not in token and base in flat and where in (None, book) and part in model:
            token[key] = _token_rate(flat[base], scale, (up, down), " (%s)" % text)
    if "input_audio" not in token and "cache_read" in token and book == "google":
        token.setdefault("cache_audio_read", token["cache_read"])
    for key, base, books in FALLBACKS:
        if key in token or base not in token:
            continue
        if book == _OWN or ((books is None or book in books) and (key, book) not in APART):
            token[key] = token[base]
    if token.get("input_audio") is token.get("input") and "cache_read" in token:
        token.setdefault("cache_audio_read", token["cache_read"])
    unit = {
        key: Rate(
            exact(flat[key], FEMTO * scale.fee[0], row.per * scale.fee[1]),
            "$%s per %s%s" % (flat[key], row.text, scale.fee_note),
        )
        for key, row in UNIT_KEYS.items()
        if key in flat
    }
    return Rates(token, unit, tuple(text for key, text in UNCOUNTED_KEYS.items() if key in flat))


def _at(value: Any, above: Optional[int]) -> str:
    if type(value) is not list:
        return str(value)
    price = value[0]
    for start, higher in value[1:]:
        if above is not None and above >= start:
            price = higher
    return str(price)


def _token_rate(price: str, scale: Scale, derived: Factor = (1, 1), note: str = "") -> Rate:
    femto = exact(price, FEMTO * scale.token[0] * derived[0], 1_000_000 * scale.token[1] * derived[1])
    return Rate(femto, "$%s per 1M tokens%s%s" % (price, note, scale.note))
