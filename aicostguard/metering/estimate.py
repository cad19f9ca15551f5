"""How many tokens a text is, about: for responses whose provider told no usage.

Owns the arithmetic of an estimate. A text is cut as tokenizers cut it (words, runs of digits, signs, blanks), and each
piece is counted by its kind and length; letters by their script. No vocabulary: those that exist weigh tens of
megabytes, are loaded with Python's lock held for a quarter of a second, and differ by provider, while what is not seen
of a prompt (templates, hidden reasoning) is larger than what they would be better by. `docs/metering.md` has the errors
measured by family. Pure; never raises for what a text holds. Every number from here is marked `estimated`.
"""

from __future__ import annotations

import re
from typing import Callable, Dict, Iterable, NamedTuple, Tuple

from aicostguard.metering.text import Text

#: characters that are looked at; of a longer text the beginning stands for the rest
MOST = 100_000

#: words, up to three digits, underscores, other signs, blanks: what the published patterns of tokenizers agree on
_PIECE = re.compile(r"'(?:s|t|re|ve|m|ll|d)\b|[^\W\d_]+|\d{1,3}|_+|[^\w\s]+|\s+", re.IGNORECASE)

#: tokens a letter, by Unicode script; words in Latin letters go by length
_SCRIPTS: Dict[str, float] = {
    "Han": 0.75, "Hiragana": 0.75, "Katakana": 0.8, "Hangul": 0.75, "Cyrillic": 0.30, "Greek": 0.40, "Arabic": 0.36,
    "Hebrew": 0.45, "Devanagari": 0.40, "Bengali": 0.45, "Tamil": 0.40, "Thai": 0.45, "Georgian": 0.5, "Armenian": 0.45,
}  # fmt: skip
#: of any other script
_RARE = 0.8


class Family(NamedTuple):
    """How a family of models differs: tokens by ours, for each message, for each request, for tools at all, and
    how much of a schema's JSON it reads."""

    factor: float = 1.0
    message: float = 4.0
    request: float = 3.0
    tools: float = 0.0
    schema: float = 0.6


#: part of a model's name → its family. The tools' prompt of Claude is documented:
#: https://platform.claude.com/docs/en/agents-and-tools/tool-use/overview (tool use system prompt token count)
FAMILIES: Tuple[Tuple[str, Family], ...] = (
    ("claude", Family(factor=1.18, message=3.0, request=4.0, tools=340.0, schema=1.0)),
    ("gemini", Family(message=0.0, request=0.0)),
    ("mistral", Family(factor=1.08, message=4.0, request=1.0, tools=10.0, schema=1.0)),
    ("command", Family(factor=1.09)),
    ("llama", Family(message=4.0, request=8.0)),
)
_USUAL = Family()

Script = Callable[[str], str]


def family_of(model: str) -> Family:
    """The family of a model, by its name."""
    name = model.lower()
    return next((family for part, family in FAMILIES if part in name), _USUAL)


def read(text: Text, model: str, script: Script) -> int:
    """Tokens of a request."""
    family = family_of(model)
    whole = _tokens(text.pieces, script) + family.schema * _tokens(text.schemas, script)
    more = family.message * text.messages + family.request + (family.tools if text.schemas else 0.0)
    return max(1, round(whole * family.factor + more))


def written(text: Text, model: str, script: Script, share: float = 1.0) -> int:
    """Tokens of a response, of whose bytes `share` were looked at."""
    return round(_tokens(text.pieces, script) * family_of(model).factor / share)


def _tokens(pieces: Iterable[str], script: Script) -> float:
    whole = "".join(pieces)
    looked = whole[:MOST]
    if not looked:
        return 0.0
    return sum(_piece(found.group(), script) for found in _PIECE.finditer(looked)) * len(whole) / len(looked)


def _piece(piece: str, script: Script) -> float:
    first, length = piece[0], len(piece)
    if first.isalpha():
        if piece.isascii():
            return 1.0 if length <= 7 else 1.0 + (length - 7) / 5.5
        kind = script(first)
        if kind == "Latin":
            return max(1.0, length / 3.2)
        return max(1.0, length * _SCRIPTS.get(kind, _RARE))
    if first.isdigit() or first == "'":
        return 1.0
    if first.isspace():
        return 0.0 if piece == " " else 1.0
    return max(1.0, length / 2.2)
