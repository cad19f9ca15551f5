"""What programs send to `/v1/authorize` and `/v1/settle`, read and checked. Pure, but for the price book.

Owns the keys of both bodies. Raises `Refused` (422) that names the key; nothing is taken in part.
"""

from __future__ import annotations

import json
from typing import Any, Mapping, NamedTuple

from aicostguard.guard.rules import decimal
from aicostguard.ledger.budgets.leases import Asked
from aicostguard.ledger.errors import Refused
from aicostguard.pricing.registry import ModelPricing
from aicostguard.receipt import FIELDS
from aicostguard.usage import Usage

#: seconds that a ticket holds what it may use when the request does not say
LEASE_S, MOST_LEASE_S = 600, 86_400
#: a call above this is a mistake
MOST_NANOUSD = 10**14
MOST_TOKENS = 10**9
MOST_LEASES = 200

#: keys of a receipt that say whose call it is
_LABELS = tuple(name for name, field in FIELDS.items() if field.kind == "label" and name != "request")
_MORE = ("service", "environment")
_ASK = ("model", "provider", "operation", *_LABELS, *_MORE, "tags")
_AMOUNTS = ("input_tokens", "output_tokens", "max_output_tokens", "estimate_usd", "lease_s")


class Asking(NamedTuple):
    """One call before it is made. None: not known. `unpriced`: tokens are known, but the model has no price."""

    labels: Mapping[str, str]
    nanousd: int | None
    tokens: int | None
    unpriced: bool
    lease_s: int


class Used(NamedTuple):
    """What a call has used: a cost, or counts to be priced, or nothing at all (`release`)."""

    release: bool = False
    nanousd: int | None = None
    counts: Mapping[str, Any] = {}
    model: str | None = None

    @property
    def tokens(self) -> int | None:
        if "input_tokens" not in self.counts and "output_tokens" not in self.counts:
            return None
        return int(self.counts.get("input_tokens", 0)) + int(self.counts.get("output_tokens", 0))

    def cost(self, labels: Mapping[str, str], at_ms: int, prices: ModelPricing) -> int | None:
        """In nano-dollars, None without a price."""
        if self.nanousd is not None or not self.counts:
            return self.nanousd
        usage = {**({"operation": labels["operation"]} if "operation" in labels else {}), **self.counts}
        model = self.model or labels["model"]
        return prices.price(model, usage, provider=labels.get("provider"), at_ms=at_ms).cost_nanousd


def authorize(body: Mapping[str, Any], at_ms: int, prices: ModelPricing) -> Asking:
    """Read a question for one call."""
    _known(body, (*_ASK, *_AMOUNTS))
    labels = {name: _text(body, name) for name in _ASK if name in body and name != "tags"}
    if "model" not in labels:
        raise Refused(422, "is required: the name that the provider knows it by", "model")
    if "tags" in body:
        _fits("tags", body["tags"])
        labels.update({f"tags.{name}": value for name, value in body["tags"].items()})
    lease_s = _count(body, "lease_s", MOST_LEASE_S) if "lease_s" in body else LEASE_S
    if not lease_s:
        raise Refused(422, f"must be 1 to {MOST_LEASE_S} seconds", "lease_s")
    reads = _count(body, "input_tokens", MOST_TOKENS)
    writes = _count(body, "max_output_tokens", MOST_TOKENS)
    if writes is None:
        writes = _count(body, "output_tokens", MOST_TOKENS)
    tokens = reads + writes if reads is not None and writes is not None else None
    if "estimate_usd" in body:
        return Asking(labels, _usd(body, "estimate_usd"), tokens, False, lease_s)
    priced = None
    if reads is not None and writes is not None:
        priced = prices.ceiling(
            labels["model"],
            provider=labels.get("provider"),
            input_tokens_max=reads,
            output_tokens_max=writes,
            at_ms=at_ms,
        )
    return Asking(labels, priced, tokens, tokens is not None and priced is None, lease_s)


def settle(body: Mapping[str, Any]) -> tuple[str, Used]:
    """Read what became of a call: `(ticket, what it used)`."""
    counts = {name: body[name] for name in Usage._fields if name in body}
    more = {name: body[name] for name in ("service_tier", "region") if name in body}
    _known(body, ("ticket", "model", "cost_usd", "release", *Usage._fields, "service_tier", "region"))
    ticket = body.get("ticket")
    if not isinstance(ticket, str) or not ticket:
        raise Refused(422, "is required: what /v1/authorize gave", "ticket")
    ways = [name for name, there in (("cost_usd", "cost_usd" in body), ("release", "release" in body)) if there]
    if len(ways) + bool(counts) != 1 and not (ways == ["cost_usd"] and counts):
        raise Refused(422, "say one thing: what was used (input_tokens, output_tokens, …), cost_usd, or release: true")
    if "release" in body and body["release"] is not True:
        raise Refused(422, "must be true, or left out", "release")
    for name, value in {**counts, **more}.items():
        _fits(name, value)
    model = _text(body, "model") if "model" in body else None
    cost = _usd(body, "cost_usd") if "cost_usd" in body else None
    return ticket, Used("release" in body, cost, {**counts, **more} if counts else {}, model)


def lend(body: Mapping[str, Any]) -> tuple[str, list[tuple[str, Asked]]]:
    """Read the question of a process that spends by itself: `(holder, [(budget, what it asks)])`."""
    _known(body, ("holder", "leases"))
    holder, given = body["holder"], body.get("leases")
    if not isinstance(holder, str) or not 8 <= len(holder) <= 64 or not holder.isascii():
        raise Refused(422, "must be the epoch of the process, 8 to 64 characters", "holder")
    if not isinstance(given, list) or len(given) > MOST_LEASES:
        raise Refused(422, f"must be a list of at most {MOST_LEASES}", "leases")
    return holder, [_lease(item) for item in given]


def _lease(item: Any) -> tuple[str, Asked]:
    if not isinstance(item, dict):
        raise Refused(422, "must hold objects", "leases")
    _known(item, ("budget", "scope", "turn", "have", "at_least", "exactly"), "leases.")
    budget, scope = item.get("budget"), item.get("scope", [])
    if not isinstance(budget, str):
        raise Refused(422, "is required", "leases.budget")
    if not isinstance(scope, list) or not all(isinstance(value, str) and len(value) <= 200 for value in scope):
        raise Refused(422, "must be a list of texts", "leases.scope")
    numbers = {}
    for name in ("turn", "have", "at_least", "exactly"):
        value = item.get(name)
        if value is not None and (type(value) is not int or not 0 <= value <= 2**53):
            raise Refused(422, "must be an integer from 0 to 2^53", f"leases.{name}")
        numbers[name] = value
    if (numbers["at_least"] is None) == (numbers["exactly"] is None):
        raise Refused(422, "give at_least or exactly", "leases.at_least")
    text = json.dumps(scope, separators=(",", ":"))
    return budget, Asked(text, numbers["turn"] or 0, numbers["have"] or 0, numbers["at_least"], numbers["exactly"])


def _known(body: Mapping[str, Any], names: tuple[str, ...], where: str = "") -> None:
    for name in body:
        if name not in names:
            raise Refused(422, f"is not a key here; known are {', '.join(names)}", where + ascii(str(name)[:64])[1:-1])


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body[name]
    _fits(name if name in FIELDS else "user", value, name)
    return str(value)


def _fits(field: str, value: Any, name: str | None = None) -> None:
    if not FIELDS[field].fits(value):
        raise Refused(422, f"must be {FIELDS[field].expects}", name or field)


def _count(body: Mapping[str, Any], name: str, most: int) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= most:
        raise Refused(422, f"must be an integer from 0 to {most}", name)
    return value


def _usd(body: Mapping[str, Any], name: str) -> int:
    value = decimal(body[name], 10**9)
    if value is None or not 0 <= value <= MOST_NANOUSD:
        raise Refused(422, "must be an amount in USD, 0 or more and no finer than a nano-dollar, such as 0.25", name)
    return value
