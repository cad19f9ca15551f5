"""From the fields of a form to what the API takes, and back. Pure.

Owns how people write what is no plain text: labels with values, lists, questions. What a value may be is the API's to
say; what it refuses is told of the field that stands in the form.
"""

from __future__ import annotations

import contextlib
from typing import Any, Callable, Iterator, Mapping
from urllib.parse import parse_qsl, urlencode

from aicostguard.ledger.alerts import rule
from aicostguard.ledger.errors import Refused

Form = Mapping[str, str]


def pairs(text: str, field: str) -> dict[str, list[str]]:
    """`team=search, team=shop` as `{"team": ["search", "shop"]}`. Raises `Refused` (422)."""
    found: dict[str, list[str]] = {}
    for item in items(text):
        name, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not name or not value:
            raise Refused(422, f"{item[:60]!a} is no label with a value; write them like team=search", field)
        found.setdefault(name, []).append(value)
    return found


def items(text: str) -> list[str]:
    """What stands between commas."""
    return [item.strip() for item in text.split(",") if item.strip()]


@contextlib.contextmanager
def told_of(fields: Mapping[str, str]) -> Iterator[None]:
    """Tell a refusal of the form's field instead of the API's key."""
    try:
        yield
    except Refused as error:
        if error.field not in fields:
            raise
        raise Refused(error.status, str(error), fields[error.field]) from None


#: key of the API → the form's field
OF_BUDGET: Mapping[str, str] = {"limit_usd": "limit", "limit_tokens": "limit", "limit_requests": "limit"}


def budget(form: Form) -> dict[str, Any]:
    """The body of `POST /v1/budgets`. Raises `Refused` (422)."""
    match = {}
    for name, values in pairs(form.get("match", ""), "match").items():
        if len(values) > 1:
            raise Refused(422, f"{name} stands there twice; a budget is for one value, or kept for each (per)", "match")
        match[name] = values[0]
    unit = form.get("unit", "usd")
    if f"limit_{unit}" not in OF_BUDGET:
        raise Refused(422, "must be usd, tokens or requests", "unit")
    body: dict[str, Any] = {
        "name": form.get("name", ""),
        f"limit_{unit}": form.get("limit", ""),
        "match": match,
        "per": items(form.get("per", "")),
        "alert_at": items(form.get("alert_at", "")),
        **{name: form[name] for name in ("period", "timezone", "on_exceed") if form.get(name)},
    }
    if form.get("spent", "").strip():
        body["spent"] = form["spent"]
    return body


def of_budget(row: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a budget of `GET /v1/budgets`."""
    unit = next(name.removeprefix("limit_") for name in OF_BUDGET if name in row)
    return {
        "name": row["name"],
        "unit": unit,
        "limit": str(row[f"limit_{unit}"]),
        "match": ", ".join(f"{name}={value}" for name, value in row["match"].items()),
        "per": ", ".join(row["per"]),
        "alert_at": ", ".join(f"{share * 100:g}%" for share in row["alert_at"]),
        **{name: row[name] for name in ("period", "timezone", "on_exceed")},
    }


#: what a budget is unless somebody says otherwise
NEW_BUDGET: Mapping[str, str] = {
    "name": "",
    "unit": "usd",
    "limit": "",
    "match": "",
    "per": "",
    "alert_at": "75%, 90%, 100%",
    "period": "month",
    "timezone": "UTC",
    "on_exceed": "warn",
    "spent": "",
    "reach": "project",
}


def _several(text: str, field: str) -> dict[str, Any]:
    return {name: values[0] if len(values) == 1 else values for name, values in pairs(text, field).items()}


def _query(text: str, field: str) -> dict[str, list[str]]:
    """A question as it stands in an address; with the `?` and what is before it, too."""
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(text.strip().rpartition("?")[2], keep_blank_values=True, max_num_fields=100):
        found.setdefault(name, []).append(value)
    if not found:
        raise Refused(422, "is missing; copy it from the address of a page, such as since=24h&group_by=feature", field)
    return found


#: key of a rule → how its field is read; all others are text as it stands
_READ: Mapping[str, Callable[[str, str], Any]] = {
    "match": _several,
    "query": _query,
    "budgets": lambda text, _: items(text),
    "channels": lambda text, _: items(text),
}
#: key of a rule → the form's field; `action` is what every form calls what it does
OF_RULE: Mapping[str, str] = {"action": "does"}
#: keys that have boxes to tick instead of a field
BOXES = ("notify", "enabled")


def alert_rule(form: Form, kind: str) -> dict[str, Any]:
    """What a form says of a rule of a kind; None for what is taken by default. Raises `Refused` (422)."""
    given: dict[str, Any] = {}
    for name in rule.keys(kind):
        text = form.get(OF_RULE.get(name, name), "").strip()
        if name == "kind" or name in BOXES:
            continue
        read = _READ.get(name)
        given[name] = read(text, name) if read and (text or name != "query") else text or None
    given["notify"] = [event for event in rule.EVENTS if form.get(f"notify_{event}")]
    return given


def of_rule(row: Mapping[str, Any]) -> dict[str, str]:
    """The fields of a rule of `GET /v1/alerts/rules`."""
    out = {}
    for name in rule.keys(row["kind"]):
        value = row[name]
        if name == "query":
            out[name] = urlencode(value, doseq=True)
        elif name == "match":
            flat = ((key, item if isinstance(item, list) else [item]) for key, item in value.items())
            out[name] = ", ".join(f"{key}={item}" for key, found in flat for item in found)
        elif name == "notify":
            out.update({f"notify_{event}": "1" if event in value else "" for event in rule.EVENTS})
        elif name != "enabled":
            out[name] = ", ".join(value) if isinstance(value, list) else str(value)
    return out


#: stands for what has to be said until somebody says it
_OPEN: Mapping[str, Any] = {"threshold": "1", "query": {"since": "24h"}}


def new_rule(kind: str) -> dict[str, str]:
    """The fields of a rule that nobody has written yet: what is taken by default."""
    missing = [name for name, value in rule.SORTS[kind].defaults.items() if value is rule.REQUIRED]
    made = rule.read({"name": "new", "kind": kind, **{name: _OPEN[name] for name in missing}})
    return {**of_rule(rule.written(made)), **dict.fromkeys(("name", *missing), "")}


def counts(form: Form, field: str) -> list[int]:
    """Numbers that a hidden field holds, with commas. Raises `Refused` (422)."""
    texts = items(form.get(field, ""))
    if not texts or len(texts) > 100 or not all(text.isascii() and text.isdigit() and len(text) < 19 for text in texts):
        raise Refused(422, "must be numbers", field)
    return [int(text) for text in texts]
