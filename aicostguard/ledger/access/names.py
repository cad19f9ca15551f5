"""Names and spans of time that people give: what is taken, and how a refusal reads.

Owns these checks. A name stands in headers, logs and tables: it begins with a letter or digit, so that no spreadsheet
takes it for a formula, and holds nothing that a line or a header could break on.
"""

from __future__ import annotations

import re
from typing import Any, Mapping, Sequence

from aicostguard.ledger.errors import Refused

_PLACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.@-]{0,62}[A-Za-z0-9_.@-]\Z|[A-Za-z0-9]\Z")
_EMAIL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._%+-]{0,63}@[A-Za-z0-9](?:[A-Za-z0-9.-]{0,185}[A-Za-z0-9])?\Z")
_SPAN = re.compile(r"([0-9]{1,6})([smhd])\Z")
_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
#: ten years
MOST_SPAN_MS = 3650 * _MS["d"]
MOST_LABEL = 100
#: what a spreadsheet takes for the beginning of a formula
_FORMULA = ("=", "+", "-", "@")


def place(value: Any, field: str = "name") -> str:
    """The name of an organisation or a project. Raises `Refused` (422)."""
    if not isinstance(value, str) or not _PLACE.match(value):
        raise Refused(
            422, "must be 1 to 64 letters, digits, blanks or any of _ . @ - and begin with a letter or digit", field
        )
    return value


def label(value: Any, field: str = "name") -> str:
    """What somebody calls a key or a person; may be empty. Raises `Refused` (422)."""
    if not isinstance(value, str) or len(value) > MOST_LABEL or not value.isprintable() or value.startswith(_FORMULA):
        raise Refused(422, f"must be at most {MOST_LABEL} printable characters, the first none of = + - @", field)
    return value


def email(value: Any, field: str = "email") -> str:
    """An address, in small letters: two accounts never differ by case alone. Raises `Refused` (422)."""
    if not isinstance(value, str) or not _EMAIL.match(value):
        raise Refused(422, "must be an e-mail address like ada@example.com, of ASCII characters", field)
    return value.lower()


def span(value: Any, field: str, least_ms: int = 0) -> int:
    """A span of time like 90d, 12h, 30m or 0s, in ms. Raises `Refused` (422)."""
    found = _SPAN.match(value) if isinstance(value, str) else None
    amount = int(found.group(1)) * _MS[found.group(2)] if found else -1
    if not least_ms <= amount <= MOST_SPAN_MS:
        least = f", {least_ms // 1000}s or more" if least_ms else ""
        raise Refused(422, f"must be a span like 90d, 12h, 30m or 0s{least}, ten years at most", field)
    return amount


def count(value: Any, field: str, least: int, most: int) -> int:
    """An integer within bounds. Raises `Refused` (422)."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Refused(422, f"must be an integer from {least} to {most}", field)
    return value


def one_of(value: Any, known: Sequence[str], field: str) -> str:
    """One of some words. Raises `Refused` (422)."""
    if not isinstance(value, str) or value not in known:
        raise Refused(422, f"must be one of {', '.join(known)}", field)
    return value


def truth(value: Any, field: str) -> bool:
    """True or false. Raises `Refused` (422)."""
    if not isinstance(value, bool):
        raise Refused(422, "must be true or false", field)
    return value


def only(body: Mapping[str, Any], known: Sequence[str], what: str = "a key here") -> None:
    """Refuse what is not known, by its name (422)."""
    for name in body:
        if name not in known:
            has = f"known are {', '.join(known)}" if known else "there are none here"
            raise Refused(422, f"is not {what}; {has}", ascii(name[:64])[1:-1])
