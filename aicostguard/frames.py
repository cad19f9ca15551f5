"""`aicostguard.query`: what the ledger knows, as rows or as a frame of pandas or polars.

Owns the type of each column. The question is the API's (`GET /v1/costs`, `GET /v1/receipts`), asked of a file or of a
running ledger by the code that the command line uses. Money is in two columns: `…_nanousd`, whole nano-dollars, exact,
and `…_usd`, a float for people. Times know their zone. What is not known is null, never 0. pandas and polars are
imported by whoever asks for their frame.
"""

from __future__ import annotations

import datetime
import os
from typing import TYPE_CHECKING, Any, Mapping, NamedTuple, Sequence
from zoneinfo import ZoneInfo

from aicostguard.cli import ask
from aicostguard.ledger.amounts import AVERAGES, SHARES
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import DIMENSIONS, TIMES
from aicostguard.ledger.query import MAX_LIMIT
from aicostguard.receipt import FIELDS

if TYPE_CHECKING:
    import pandas
    import polars

#: receipts that are fetched when nobody says how many
RECEIPTS = 100_000

WHOLE, NUMBER, TEXT, FLAG, TIME = "whole", "number", "text", "flag", "time"
#: kind → dtype of pandas; each knows null
PANDAS: Mapping[str, str] = {WHOLE: "Int64", NUMBER: "Float64", TEXT: "string", FLAG: "boolean"}
#: columns of what a row says of the period before: name in a frame → key of the row's `before`
OF_BEFORE: Mapping[str, str] = {
    "before_usd": "cost_usd",
    "before_nanousd": "cost_nanousd",
    **{f"before_{name}": name for name in ("calls", "unpriced_calls", "input_tokens", "output_tokens")},
}
#: columns of a receipt: name → kind, in order
OF_RECEIPT: Mapping[str, str] = {
    "at": TIME,
    "cost_usd": NUMBER,
    "cost_nanousd": WHOLE,
    **{name: {"int": WHOLE, "flag": FLAG}.get(field.kind, TEXT) for name, field in FIELDS.items()},
    **dict.fromkeys(("service", "environment", "release", "host", "price_row", "unpriced_reason"), TEXT),
    **dict.fromkeys(("epoch",), TEXT),
    "seq": WHOLE,
    "clock_adjusted": FLAG,
}


class Answer(NamedTuple):
    """Rows as the API gives them, `totals` and what `limit` cut off (None: nothing), and the way to a frame.

    `archived` says which receipts are in no row because they are archived; None for none.
    """

    rows: list[dict[str, Any]]
    totals: dict[str, Any]
    other: dict[str, Any] | None
    kinds: Mapping[str, str]
    tz: str
    archived: dict[str, Any] | None = None

    def pandas(self) -> pandas.DataFrame:
        """A frame of pandas, with dtypes that know null."""
        try:
            import pandas
        except ImportError as error:
            raise ImportError("query(...).pandas() needs pandas: pip install 'aicostguard[frames]'") from error
        times = f"datetime64[ms, {self.tz}]"
        return pandas.DataFrame(
            {
                name: pandas.Series(values, dtype=times if self.kinds[name] == TIME else PANDAS[self.kinds[name]])
                for name, values in self._columns().items()
            }
        )

    def polars(self) -> polars.DataFrame:
        """A frame of polars."""
        try:
            import polars
        except ImportError as error:
            raise ImportError("query(...).polars() needs polars: pip install 'aicostguard[frames]'") from error
        types: dict[str, Any] = {WHOLE: polars.Int64, NUMBER: polars.Float64, TEXT: polars.String, FLAG: polars.Boolean}
        types[TIME] = polars.Datetime("ms", self.tz)
        return polars.DataFrame(self._columns(), schema={name: types[kind] for name, kind in self.kinds.items()})

    def _columns(self) -> dict[str, list[Any]]:
        zone = ZoneInfo(self.tz)
        rows = [_flat(row) for row in self.rows] if "before_nanousd" in self.kinds else self.rows
        return {name: [_value(row.get(name), kind, zone) for row in rows] for name, kind in self.kinds.items()}


def query(
    what: str = "costs",
    *,
    db: str | os.PathLike[str] | None = None,
    url: str | None = None,
    key: str | None = None,
    limit: int | None = None,
    **parameters: Any,
) -> Answer:
    """Ask for `costs` or single `receipts`: of the file `db`, or of the ledger at `url` with `key`.

    Without either, where `AICG_URL` (and `AICG_KEY`) points to, else this user's own. `parameters` are the API's,
    `since="30d"`, `group_by="day,model"`, `feature="chat"`, `tz=…`; a list for several values. At most `limit` rows
    (10,000 of costs, 100,000 receipts). Raises ValueError, naming it, for a parameter that cannot be, and
    `LedgerError` where no ledger is.
    """
    if what not in ("costs", "receipts"):
        raise ValueError(f"what: {what!r} must be costs or receipts")
    most = limit if limit is not None else MAX_LIMIT if what == "costs" else RECEIPTS
    if type(most) is not int or most < 1:
        raise ValueError(f"limit: {most!r} must be a whole number from 1 on")
    asked = {name: _texts(value) for name, value in parameters.items() if value is not None}
    try:
        with ask.following(ask.where(None if db is None else os.fspath(db), url, key)) as asking:
            tz = (asked.get("tz") or ["UTC"])[0]
            if what == "costs":
                body = asking("costs", {**asked, "limit": [str(most)]})
                names = dict.fromkeys(body["group_by"], TEXT)
                kinds = {**names, **{name: _kind(name) for name in _flat(body["totals"])}}
                kinds.update(dict.fromkeys(set(TIMES) & set(names), TIME))
                rows = body["rows"] if names else [body["totals"]]
                other = body["other"] if names else None
                return Answer(rows, body["totals"], other, kinds, tz, body["archived"])
            rows, more, archived = _pages(asking, asked, most)
            return Answer(rows, {}, {"more": True} if more else None, OF_RECEIPT, tz, archived)
    except Refused as refused:
        raise ValueError(f"{refused.field}: {refused}" if refused.field else str(refused)) from None


def _flat(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with what it says of the period before in columns of their own."""
    before = row.get("before")
    if before is None:
        return row
    out: dict[str, Any] = {}
    for name, value in row.items():
        out.update({column: before[key] for column, key in OF_BEFORE.items()} if name == "before" else {name: value})
    return out


def _pages(
    asking: ask.Asker, asked: Mapping[str, list[str]], most: int
) -> tuple[list[dict[str, Any]], bool, dict[str, Any] | None]:
    """Receipts, newest first, at most so many; whether there are more; what is archived."""
    rows: list[dict[str, Any]] = []
    cursor: list[str] = []
    while len(rows) < most:
        page = asking("receipts", {**asked, "limit": [str(min(MAX_LIMIT, most - len(rows)))], "cursor": cursor})
        rows += page["receipts"]
        if page["cursor"] is None:
            return rows, False, page["archived"]
        cursor = [page["cursor"]]
    after = asking("receipts", {**asked, "limit": ["1"], "cursor": cursor})
    return rows, bool(after["receipts"]), after["archived"]


def _texts(value: Any) -> list[str]:
    several: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
    return [item.isoformat() if isinstance(item, datetime.date) else str(item) for item in several]


def _kind(name: str) -> str:
    """Of a column of sums."""
    if name.endswith("_usd") or name in SHARES or name in AVERAGES or "_p" in name or name == "ratio":
        return NUMBER
    return TEXT if name in DIMENSIONS else FLAG if name == "approximate" else WHOLE


def _value(value: Any, kind: str, zone: ZoneInfo) -> Any:
    if value is None:
        return None
    if kind == TIME:
        text = str(value)
        moment = datetime.datetime.fromisoformat(text if len(text) > 7 else text + "-01")
        return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment.astimezone(zone)
    if kind == NUMBER:
        return float(value)
    if kind == TEXT and not isinstance(value, str):
        return ",".join(f"{name}={item}" for name, item in value.items()) if isinstance(value, dict) else str(value)
    return value
