"""The ledger's own terms, changed while it is served: prices, aliases and discounts in its prices file.

Owns how a row comes into that file and out of it, and that it holds from then on. The file stays what it is for
people: JSON, numbers as they were written. A change is checked as a whole by the reader of the file before anything is
put in place; a file that is YAML, or that cannot be written, is left to whoever wrote it. If this is wrong, the ledger
charges what nobody agreed to.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
import threading
from typing import Any, Mapping, NamedTuple

from aicostguard.ledger import prices
from aicostguard.ledger.errors import NotWritable, Refused
from aicostguard.ledger.sqlite import SqliteStore
from aicostguard.pricing import located, pricefile
from aicostguard.pricing.located import Located, Number
from aicostguard.pricing.pricefile import BadPriceFile

#: what a prices file lists
PARTS = ("prices", "aliases", "discounts", "premiums")
#: keys whose values are numbers; all else is text
NUMBERS = frozenset({*pricefile.PRICES, "percent"})
_NUMBER = re.compile(r"\d+(\.\d+)?\Z")
_changing = threading.Lock()


class Terms(NamedTuple):
    """What the file says. `closed` says why it cannot be changed here; empty when it can."""

    path: str
    there: bool
    content: Mapping[str, Any]
    closed: str

    def rows(self, part: str) -> list[Mapping[str, Any]]:
        found = self.content.get(part, [])
        return list(found) if isinstance(found, list) else []


def read(store: SqliteStore) -> Terms:
    """The ledger's own terms. Raises `BadPrices`."""
    own = prices.own_file(store.path, store.setting(prices.SETTING))
    path = own or prices.beside(store.path, prices.OWN_NAMES[0])
    if own is None:
        return Terms(path, False, {"version": Number("1")}, "")
    prices.read_own(path)  # whole and right, or it is said
    yaml = not path.lower().endswith(".json")
    with open(path, encoding="utf-8-sig") as file:
        content = _plain(located.read(file.read(), yaml=yaml))
    closed = "it is YAML, which is changed by hand" if yaml else ""
    return Terms(path, True, content, closed or ("" if os.access(path, os.W_OK) else "the ledger may not write it"))


def _plain(at: Located) -> Any:
    if isinstance(at.value, dict):
        return {name: _plain(item) for name, item in at.value.items()}
    return [_plain(item) for item in at.value] if isinstance(at.value, list) else at.value


def add(store: SqliteStore, part: str, row: Mapping[str, str]) -> None:
    """Add a row, of which empty values are left out. Raises `Refused` (422) that names the key, or `NotWritable`."""
    stated: dict[str, Any] = {}
    for name, value in row.items():
        if value.strip():
            stated[name] = _number(name, value.strip()) if name in NUMBERS else value.strip()

    def job(content: dict[str, Any]) -> None:
        content.setdefault(part, []).append(stated)

    _change(store, job)


def remove(store: SqliteStore, part: str, shown: str) -> Mapping[str, Any]:
    """Take out the row that reads like `shown` (see `text`). Raises `Refused` (404)."""
    gone: list[Mapping[str, Any]] = []

    def job(content: dict[str, Any]) -> None:
        rows = content.get(part, [])
        for place, row in enumerate(rows):
            if text(row) == shown:
                gone.append(rows.pop(place))
                return
        raise Refused(404, "is not there any more: somebody else changed it", "row")

    _change(store, job)
    return gone[0]


def _number(name: str, value: str) -> Number:
    if not _NUMBER.match(value):
        raise Refused(422, f"{value[:40]!a} is no number; use one like 2.5, with a point", name)
    return Number(value)


def _change(store: SqliteStore, job: Any) -> None:
    with _changing:
        terms = read(store)
        if terms.closed:
            raise NotWritable(f"{terms.path} cannot be changed here: {terms.closed}")
        content = dict(terms.content)
        for part in PARTS:
            if part in content:
                content[part] = list(content[part])
        job(content)
        written = text(content, 2) + "\n"
        try:
            pricefile.parse(written, terms.path)
        except BadPriceFile as error:
            first = error.mistakes[0]
            raise Refused(422, first.says, first.key.rpartition(".")[2].partition("[")[0]) from None
        _put(terms.path, written)
        store.book = prices.special(store.path, store.setting(prices.SETTING))


def _put(path: str, written: str) -> None:
    folder = os.path.dirname(path)
    temporary = ""
    try:
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".prices-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            if os.path.exists(path):
                os.fchmod(file.fileno(), stat.S_IMODE(os.stat(path).st_mode))
            file.write(written)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary and os.path.exists(temporary):
            os.unlink(temporary)
        raise NotWritable(f"{path} cannot be written: {error.strerror}; nothing was changed") from error


def text(value: Any, indent: int = 0, depth: int = 0) -> str:
    """JSON, numbers as they were written. `indent` sets each row on a line of its own, and no more."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, Mapping):
        pairs = [f"{json.dumps(str(name))}: {text(item, indent, depth + 1)}" for name, item in value.items()]
        return _set(pairs, "{}", indent if depth == 0 else 0, depth)
    if isinstance(value, (list, tuple)):
        return _set([text(item, indent, depth + 1) for item in value], "[]", indent if depth == 1 else 0, depth)
    return json.dumps(value)


def _set(parts: list[str], ends: str, indent: int, depth: int) -> str:
    if not indent or not parts:
        return ends[0] + ", ".join(parts) + ends[1]
    inner, outer = " " * indent * (depth + 1), " " * indent * depth
    return ends[0] + "\n" + ",\n".join(inner + part for part in parts) + "\n" + outer + ends[1]
