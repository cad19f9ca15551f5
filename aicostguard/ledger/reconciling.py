"""What a provider's own export says was used and billed, beside what the ledger has: by UTC day and model.

Owns how exports are read (those of OpenAI's and Anthropic's usage and cost endpoints, and a plain CSV) and how rows are
put beside each other. Reads text and gives values: nothing is fetched, no admin key is ever asked for. What an export
does not say is None, never 0, and is compared with nothing. Money is whole nano-dollars, rounded once per row.

OpenAI:    https://platform.openai.com/docs/api-reference/usage
Anthropic: https://docs.claude.com/en/api/usage-cost-api
"""

from __future__ import annotations

import csv
import datetime
import json
import re
from collections import Counter
from decimal import Decimal, InvalidOperation
from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

from aicostguard.ledger.errors import Refused
from aicostguard.pricing import names

NANO = 10**9
#: what can be compared; money apart from it
COUNTS = ("calls", "input_tokens", "output_tokens")
#: columns of the plain CSV; one of those that count is enough
COLUMNS = ("day", "model", "provider", *COUNTS, "cost_usd")
#: before the point or behind it, no number of an export has so many
_DIGITS = 40


class Line(NamedTuple):
    """One entry of an export; None is what it does not say."""

    provider: str
    day: str
    model: str
    calls: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd: Decimal | None = None


class Export(NamedTuple):
    """Everything that was read, and whether the provider said that there are more pages, which were not given."""

    lines: list[Line]
    more: bool


def read(texts: Mapping[str, str], provider: str | None = None) -> Export:
    """Of files, name → text. Raises `Refused` naming file, place and remedy."""
    lines: list[Line] = []
    more: dict[tuple[str, bool], bool] = {}  # of each endpoint, whether its last page so far is not its end
    for name, text in texts.items():
        if text.lstrip("\ufeff \t\r\n")[:1] in ("{", "["):
            for page in _pages(name, text):
                made = list(_page(name, page))
                lines += made
                endpoint = (made[0].provider, made[0].usd is None) if made else ("", False)
                more[endpoint] = page.get("has_more") is True
        else:
            lines += _csv(name, text, provider)
    if not lines:
        raise Refused(422, "holds no usage and no cost", next(iter(texts), "file"))
    return Export(lines, any(more.values()))


def _pages(name: str, text: str) -> list[dict[str, Any]]:
    try:
        found = json.loads(text, parse_float=Decimal)
    except ValueError as error:
        raise Refused(422, f"is not JSON: {error}", name) from None
    pages = found if isinstance(found, list) else [found]
    for page in pages:
        if not isinstance(page, dict) or not isinstance(page.get("data"), list):
            raise Refused(422, "is no page of a usage or cost endpoint: it has no list `data`", name)
    return pages


def _page(name: str, page: Mapping[str, Any]) -> Iterator[Line]:
    for place, bucket in enumerate(page["data"]):
        where = f"{name}: data[{place}]"
        results = bucket.get("results") if isinstance(bucket, dict) else None
        if not isinstance(results, list):
            raise Refused(422, "has no list `results`", where)
        openai = "start_time" in bucket
        day = _day(bucket, openai, where)
        for number, result in enumerate(results):
            if not isinstance(result, dict):
                raise Refused(422, "must be an object", f"{where}.results[{number}]")
            made = (_openai if openai else _anthropic)(result, day, f"{where}.results[{number}]")
            if made is not None:
                yield made


def _day(bucket: Mapping[str, Any], openai: bool, where: str) -> str:
    """The UTC day of a bucket, which must lie within one."""
    try:
        if openai:
            start, end = (datetime.datetime.fromtimestamp(bucket[k], datetime.UTC) for k in ("start_time", "end_time"))
        else:
            start, end = (_utc(bucket[k]) for k in ("starting_at", "ending_at"))
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        raise Refused(422, "has no start and end", where) from None
    if (end - datetime.timedelta(microseconds=1)).date() != start.date():
        raise Refused(422, "is longer than a UTC day; ask with bucket_width=1d", where)
    return start.date().isoformat()


def _utc(text: str) -> datetime.datetime:
    """A moment; one that names no zone is meant as UTC, wherever this runs."""
    found = datetime.datetime.fromisoformat(text)
    return found.astimezone(datetime.UTC) if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def _openai(result: Mapping[str, Any], day: str, where: str) -> Line | None:
    kind = result.get("object")
    if kind == "organization.costs.result":
        amount, item = result.get("amount"), result.get("line_item")
        if not isinstance(amount, dict):
            raise Refused(422, "has no amount", where)
        if not item:
            raise Refused(422, "names no line_item; ask with group_by=line_item", where)
        # "gpt-4o-2024-08-06, input": the model, then what of it
        return Line("openai", day, str(item).partition(",")[0].strip(), usd=_usd(amount, "value", 1, where))
    if not (isinstance(kind, str) and kind.startswith("organization.usage.")):
        raise Refused(422, f"is {kind!r}: neither usage nor cost", where)
    if "num_model_requests" not in result:
        return None  # hours of containers, bytes of vector stores: no call of a model
    if not result.get("model"):
        raise Refused(422, "names no model; ask with group_by=model", where)
    return Line(
        "openai",
        day,
        str(result["model"]),
        _whole(result, "num_model_requests", where),
        _whole(result, "input_tokens", where),
        _whole(result, "output_tokens", where),
    )


def _anthropic(result: Mapping[str, Any], day: str, where: str) -> Line:
    if "amount" in result:
        cents = _usd(result, "amount", 100, where)
        model = result.get("model") or result.get("cost_type")
        if not model:
            raise Refused(422, "names no model; ask with group_by[]=description", where)
        return Line("anthropic", day, str(model), usd=cents)
    if not result.get("model"):
        raise Refused(422, "names no model; ask with group_by[]=model", where)
    written = result.get("cache_creation")
    parts = [_whole(result, key, where) for key in ("uncached_input_tokens", "cache_read_input_tokens")]
    if isinstance(written, dict):
        parts += [_whole(written, key, where) for key in written]
    known = [part for part in parts if part is not None]
    tokens = sum(known) if known else None
    return Line("anthropic", day, str(result["model"]), None, tokens, _whole(result, "output_tokens", where))


def _csv(name: str, text: str, provider: str | None) -> Iterator[Line]:
    rows = csv.DictReader(text.lstrip("\ufeff").splitlines())
    given = [column.strip() for column in rows.fieldnames or ()]
    unknown = sorted(set(given) - set(COLUMNS))
    if "day" not in given or "model" not in given or unknown or not set(given) & {*COUNTS, "cost_usd"}:
        said = f", not {', '.join(unknown)}" if unknown else ""
        raise Refused(422, f"needs a heading with day, model and some of {', '.join(COLUMNS[2:])}{said}", name)
    rows.fieldnames = given
    for row in rows:
        where = f"{name}: line {rows.line_num}"
        try:
            day = datetime.date.fromisoformat((row["day"] or "").strip()).isoformat()
        except ValueError:
            raise Refused(422, f"{row['day']!r} is no day; use 2026-03-12", where) from None
        of = (row.get("provider") or provider or "").strip()
        if not of:
            raise Refused(422, "whose it is is not said: --provider, or a column `provider`", where)
        calls, tokens, output = (_whole({key: _number(row.get(key), where)}, key, where) for key in COUNTS)
        usd = _number(row.get("cost_usd"), where)
        cost = None if usd is None else Decimal(usd)
        yield Line(of, day, (row["model"] or "").strip(), calls, tokens, output, cost)


def _number(text: str | None, where: str) -> Decimal | int | None:
    if not (text or "").strip():
        return None
    try:
        number = Decimal(str(text).strip())
    except InvalidOperation:
        raise Refused(422, f"{text!r} is no number", where) from None
    # 1e999999999 is one, and takes for ever to write out.
    if not number.is_finite() or (number and abs(number.adjusted()) > _DIGITS):
        raise Refused(422, f"{text!r} is no number", where)
    return int(number) if number == number.to_integral_value() else number


def _whole(values: Mapping[str, Any], key: str, where: str) -> int | None:
    value = values.get(key)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value < 2**53:
        raise Refused(422, f"{value!s:.40} must be a whole number, not negative", f"{where}.{key}")
    return value


def _usd(values: Mapping[str, Any], key: str, per_dollar: int, where: str) -> Decimal:
    if str(values.get("currency", "")).upper() != "USD":
        raise Refused(422, f"{values.get('currency')!r} is not USD, in which all is counted here", f"{where}.currency")
    number = _number(str(values.get(key, "")), where)
    if number is None:
        raise Refused(422, "is missing", f"{where}.{key}")
    return Decimal(number) / per_dollar


class Row(NamedTuple):
    """A day and a model: theirs beside ours. A side that has no such row is None."""

    provider: str
    day: str
    model: str
    theirs: Mapping[str, int | None] | None
    ours: Mapping[str, int | None] | None

    def difference(self, name: str) -> int | None:
        """Ours less theirs; None where one of them does not say."""
        if self.theirs is None or self.ours is None:
            return None
        theirs, ours = self.theirs.get(name), self.ours.get(name)
        return None if theirs is None or ours is None else ours - theirs

    def agrees(self, percent: float) -> bool:
        """Whether all that the export says, and it must say something, is as near as that in the ledger.

        A cost of calls that have no price here agrees with none.
        """
        if self.theirs is None or self.ours is None:
            return False
        said = {name: theirs for name, theirs in self.theirs.items() if theirs is not None}
        apart = {name: self.difference(name) for name in said}
        return bool(said) and all(
            apart[name] is not None and abs(apart[name] or 0) * 100 <= percent * abs(theirs)
            for name, theirs in said.items()
        )


def summed(lines: Iterable[Line]) -> dict[tuple[str, str, str], dict[str, int | None]]:
    """(provider, day, model) → its counts and `cost_nanousd`."""
    kept: dict[tuple[str, str, str], list[Line]] = {}
    for line in lines:
        kept.setdefault((line.provider, line.day, line.model), []).append(line)
    found: dict[tuple[str, str, str], dict[str, int | None]] = {}
    for key, several in kept.items():
        sums: dict[str, int | None] = {name: _sum(getattr(line, name) for line in several) for name in COUNTS}
        usd = _sum(line.usd for line in several)
        sums["cost_nanousd"] = None if usd is None else int((usd * NANO).to_integral_value())
        found[key] = sums
    return found


def _sum(values: Iterable[Any]) -> Any:
    known = [value for value in values if value is not None]
    return sum(known[1:], known[0]) if known else None


def beside(
    theirs: Mapping[tuple[str, str, str], Mapping[str, int | None]],
    ours: Mapping[tuple[str, str, str], Mapping[str, int | None]],
) -> list[Row]:
    """Every day and model of either side: by the exact name, then, among the rest, by the name without its version."""
    rows = [Row(*key, theirs[key], ours[key]) for key in theirs if key in ours]
    left: dict[tuple[str, str, str], list[tuple[str, str, str]]] = {}
    for key in ours:
        if key not in theirs:
            left.setdefault(_bare(key), []).append(key)
    met = [key for key in theirs if key not in ours]
    called = Counter(_bare(key) for key in met)
    for key in met:
        found = left.get(_bare(key), [])
        if len(found) == 1 and called[_bare(key)] == 1:  # else nobody can tell which is which
            rows.append(Row(*key, theirs[key], ours[found.pop()]))
        else:
            rows.append(Row(*key, theirs[key], None))
    rows += [Row(*key, None, ours[key]) for keys in left.values() for key in keys]
    return sorted(rows, key=lambda row: row[:3])


def _bare(key: tuple[str, str, str]) -> tuple[str, str, str]:
    provider, day, model = key
    spelled = re.sub(r"\s+", "-", model.lower())
    place = next(names.places(provider, spelled), None)
    return provider, day, list(names.candidates(place.book, place.name))[-1][0] if place else spelled


def days(lines: Sequence[Line]) -> tuple[str, str]:
    """The first day, and the one after the last."""
    after = datetime.date.fromisoformat(max(line.day for line in lines)) + datetime.timedelta(days=1)
    return min(line.day for line in lines), after.isoformat()
