"""Prices: models without one with the calls that wait for it, own prices, aliases and discounts."""

from __future__ import annotations

from typing import Any, Mapping, NamedTuple

from starlette.responses import Response

from aicostguard.ledger import prices as charged
from aicostguard.ledger import repricing, terms
from aicostguard.ledger.access import audit
from aicostguard.ledger.access.door import actor
from aicostguard.ledger.errors import LedgerError, Refused
from aicostguard.ledger.model import HOUR_MS
from aicostguard.ledger.web import words
from aicostguard.ledger.web.pages.settings import tabs, whole
from aicostguard.ledger.web.view import View
from aicostguard.pricing import default_book

#: models without a price that are shown; receipts of one that are looked at for the reason
MODELS, LOOKED_AT = 20, 200
#: receipts that are priced while somebody waits
AT_ONCE = 50_000
#: list of the file → fields of its form, in order
FIELDS: Mapping[str, tuple[str, ...]] = {
    "prices": (
        *("provider", "model", "input_per_million", "output_per_million", "cached_per_million"),
        *("cache_write_per_million", "per_request", "from", "until"),
    ),
    "aliases": ("provider", "model", "is", "is_provider"),
    "discounts": ("provider", "model", "percent", "from", "until"),
}
#: field → what it is called, what may stand there
CALLED: Mapping[str, tuple[str, str]] = {
    "provider": ("Provider", "any"),
    "model": ("Model", "llama-70b"),
    "input_per_million": ("Input, $ per million", "0.50"),
    "output_per_million": ("Output, $ per million", "1.50"),
    "cached_per_million": ("Cached input", "as input"),
    "cache_write_per_million": ("Cache writes", "as input"),
    "per_request": ("$ per request", "0"),
    "from": ("From", "2026-01-01"),
    "until": ("Until, excluded", ""),
    "is": ("Is the listed model", "gpt-4o-2024-08-06"),
    "is_provider": ("of the provider", "its maker"),
    "percent": ("Percent off", "12.5"),
}


class Unpriced(NamedTuple):
    """A model of which calls wait for a price. `helps`: a price would help; else `reason` says what is missing."""

    model: str | None
    calls: int
    waiting: int
    provider: str
    reason: str
    helps: bool


def show(view: View) -> Response:
    decides = whole(view)
    own, broken = None, ""
    if decides:
        try:
            own = terms.read(view.site.store)
        except LedgerError as error:
            broken = str(error)
    book = view.site.store.book or default_book()
    return view.show(
        "prices.html",
        tabs=tabs(view),
        decides=decides,
        own=own,
        broken=broken,
        source=book.source,
        waiting=_unpriced(view),
        acts=view.site.store.repricings(view.principal.project_id)[:10],
        fields=FIELDS,
        called=CALLED,
        said_of=_said,
        text=terms.text,
        at_once=AT_ONCE,
    )


def _unpriced(view: View) -> list[Unpriced]:
    answer = view.ask(since="all", group_by="model", order="-unpriced_calls", limit=str(MODELS))
    return [_looked_at(view, row) for row in answer["rows"] if row["unpriced_calls"]]


def _looked_at(view: View, row: Mapping[str, Any]) -> Unpriced:
    """Why it has no price, by the calls of the last day on which some had none."""
    model = row["model"]
    calls, waiting = row["calls"], row["unpriced_calls"]
    days = view.ask(since="all", group_by="day", model=model or "", limit="10000")["rows"]
    day = next((item["day"] for item in sorted(days, key=lambda item: item["day"], reverse=True)
                if item["unpriced_calls"]), None)  # fmt: skip
    if day is None:
        return Unpriced(model, calls, waiting, "", "", True)
    found = view.receipts(since=day, until=f"{day}T23:59:59.999", tz="UTC", model=model or "", limit=str(LOOKED_AT))
    without = [item for item in found["receipts"] if item.get("cost_nanousd") is None]
    reasons = sorted({item["unpriced_reason"] for item in without if item.get("unpriced_reason")})
    missing = bool(reasons) and set(reasons) <= {"usage missing"}
    provider = without[0]["provider"] if without else ""
    return Unpriced(model, calls, waiting, provider, "; ".join(reasons[:3]), not missing)


def _said(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A row of the file as `(called, value)`, without what its own columns show."""
    return [
        (CALLED.get(str(name), (str(name).replace("_", " "), ""))[0], terms.text(value).strip('"'))
        for name, value in row.items()
        if name not in ("provider", "model")
    ]


def add(view: View) -> Response:
    """A row of the prices file."""
    _decides(view)
    part = view.form.get("part", "")
    if part not in FIELDS:
        raise Refused(422, f"must be one of {', '.join(FIELDS)}", "part")
    row = {name: view.form.get(name, "") for name in FIELDS[part]}
    terms.add(view.site.store, part, row)
    _note(view, None, {part: {name: value for name, value in row.items() if value.strip()}})
    waits = _waiting(view, row.get("model", ""))
    more = f" {words.number(waits)} calls of it wait: price them below." if waits else ""
    return view.go(view.address("/settings/prices"), f"It holds from now on.{more}")


def remove(view: View) -> Response:
    _decides(view)
    part = view.form.get("part", "")
    if part not in terms.PARTS:
        raise Refused(422, f"must be one of {', '.join(terms.PARTS)}", "part")
    gone = terms.remove(view.site.store, part, view.form.get("row", ""))
    _note(view, {part: {str(name): terms.text(value).strip('"') for name, value in gone.items()}}, None)
    return view.go(view.address("/settings/prices"), "It is gone, and calls from now on are priced without it.")


def apply(view: View) -> Response:
    """Price the calls of a model that wait, by the present prices."""
    model = view.form.get("model", "")
    waits = _waiting(view, model)
    if waits > AT_ONCE:
        raise Refused(
            422, f"has {waits:,} calls that wait, too many for a page: `aicg reprice --where model={model} --apply`",
            "model",
        )  # fmt: skip
    store = view.site.store
    book = charged.book(store.path, store.setting(charged.SETTING))
    source = book.source + (f" + {book.own.source}" if book.own is not None else "")
    scope = repricing.Scope(view.principal.project_id, 0, view.now_ms + HOUR_MS, {"model": (model,)})
    done = repricing.reprice(store, scope, book.price, source, view.now_ms, apply=True)
    _note(view, None, {"model": model, "calls": done.changed, "usd": words.exact(done.after_nanousd)}, "prices.applied")
    still = f" {words.number(done.still_unpriced)} still have no price." if done.still_unpriced else ""
    priced = f"{words.number(done.changed)} calls were priced: {words.money(done.after_nanousd)}."
    return view.go(view.address("/settings/prices"), (priced if done.changed else "No call could be priced.") + still)


def _waiting(view: View, model: str) -> int:
    if not model or "*" in model:
        return 0
    return int(view.ask(since="all", model=model)["totals"]["unpriced_calls"])


def _decides(view: View) -> None:
    if not whole(view):
        raise Refused(403, "prices hold for the whole ledger, so only who manages all of it may change them")


def _note(
    view: View, before: Mapping[str, Any] | None, after: Mapping[str, Any] | None, what: str = "prices.changed"
) -> None:
    by = view.principal
    view.site.store.change(
        lambda connection: audit.note(
            connection,
            view.now_ms,
            actor(by),
            what,
            "the ledger" if what == "prices.changed" else by.project,
            organisation_id=by.organisation_id,
            project_id=by.project_id,
            before=before,
            after=after,
        )
    )


ACTIONS = {"add": add, "remove": remove, "apply": apply}
