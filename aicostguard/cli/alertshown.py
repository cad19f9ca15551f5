"""How alerts look: tables for people.

Owns layout alone.
"""

from __future__ import annotations

from typing import Any, Mapping

from rich.table import Table
from rich.text import Text

from aicostguard.cli import table

_COLOURS = {"firing": "red", "acknowledged": "yellow", "snoozed": "cyan", "resolved": "dim"}
_NONE = "Nothing fires.\n"
_NO_CHANNELS = """No channels yet: nobody is told. Make one:

  aicg alerts channels add ops https://hooks.example.com/aicg
  aicg alerts channels add chat slack://TokenA/TokenB/TokenC/#costs
"""


def _drawn(headings: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    drawn = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        drawn.add_column(heading, overflow="fold")
    for row in rows:
        drawn.add_row(*(cell if isinstance(cell, Text) else Text(str(cell)) for cell in row))
    return table.drawn(drawn)


def _moment(text: str | None) -> str:
    return "" if text is None else text[:16].replace("T", " ")


def alerts(answer: Mapping[str, Any]) -> str:
    rows = answer["alerts"]
    if not rows:
        return _NONE
    cells = [
        (row["id"], Text(row["state"], style=_COLOURS[row["state"]]), row["action"], row["rule"], _text(row),
         _moment(row["started_at"]), _moment(row["ended_at"]))
        for row in rows
    ]  # fmt: skip
    more = f"more: --cursor {answer['cursor']}\n" if answer.get("cursor") else ""
    return _drawn(("id", "state", "action", "rule", "what", "since (UTC)", "until"), cells) + more


def _text(row: Mapping[str, Any]) -> str:
    return f"{row['subject']}: {row['text']}" if row.get("subject") else str(row["text"])


def one(row: Mapping[str, Any]) -> str:
    until = f" until {_moment(row['snoozed_until'])} UTC" if row["snoozed_until"] else ""
    return f"{row['id']}  {row['state']}{until}: {_text(row)}\n"


def checked(answer: Mapping[str, Any]) -> str:
    faults = [f"! {row['rule']} could not be looked at: {row['fault']}\n" for row in answer["faults"]]
    return alerts(answer) + "".join(faults)


def rules(answer: Mapping[str, Any]) -> str:
    rows = answer["rules"]
    if not rows:
        return "No rules. Make one: aicg alerts add daily --threshold 50\n"
    cells = [
        (row["name"], row["kind"], _condition(row), row["action"], ", ".join(row["channels"]) or "all", _state(row))
        for row in rows
    ]
    faults = [f"! {row['name']} could not be looked at: {row['fault']}\n" for row in rows if row["fault"]]
    return _drawn(("rule", "kind", "fires", "action", "channels", "open"), cells) + "".join(faults)


def _state(row: Mapping[str, Any]) -> str:
    return str(row["open"] or "") if row["enabled"] else "off"


def _condition(row: Mapping[str, Any]) -> str:
    threshold = row["threshold"]
    if row["kind"] == "query":
        return f"{row['measure']} {row['comparison']} {threshold}"
    if row["kind"] == "rate_spike":
        return f"{threshold} × usual in {row['window_minutes']} min"
    if row["kind"] == "cost_per_call":
        return f"{threshold} × the week before"
    words = {"spend": f"${threshold} a {row.get('period')}", "single_request": f"${threshold}"}
    return words.get(row["kind"], f"above {threshold}")


def rule(row: Mapping[str, Any]) -> str:
    return "".join(f"{name:15}{_value(value)}\n" for name, value in row.items() if value not in (None, "", [], {}))


def _value(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={_value(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def channels(answer: Mapping[str, Any]) -> str:
    rows = answer["channels"]
    if not rows:
        return _NO_CHANNELS
    cells = [
        (row["name"], row["url"], "on" if row["enabled"] else "off", row["waiting"] or "", _last(row)) for row in rows
    ]
    return _drawn(("channel", "address", "", "waiting", "last"), cells)


def _last(row: Mapping[str, Any]) -> str:
    last = row["last"]
    if last is None:
        return "nothing sent yet"
    said = f": {last['attempts'][-1]['said']}" if last["attempts"] else ""
    return f"{_moment(last['created_at'])} {last['state']}{said}"


def channel(row: Mapping[str, Any]) -> str:
    lines = [f"{row['name']}  {row['url']}  {'on' if row['enabled'] else 'off'}\n"]
    if row.get("secret"):
        lines.append(f"secret  {row['secret']}\n        shown this once: the receiver checks signatures with it\n")
    return "".join(lines)


def log(answer: Mapping[str, Any]) -> str:
    lines = []
    for row in answer["log"]:
        again = f", again at {_moment(row['next_attempt_at'])}" if row["next_attempt_at"] else ""
        lines.append(f"{_moment(row['created_at'])}  {row['state']:8} {row['event']:9} {row['text']}{again}\n")
        lines += [
            f"    {attempt['at'][11:19]}  {attempt['said']}  ({attempt['took_ms']} ms)\n" for attempt in row["attempts"]
        ]
    return "".join(lines) or "Nothing was sent there yet.\n"


def tested(answer: Mapping[str, Any]) -> str:
    cells = [(row["channel"], "taken" if row["ok"] else "NOT taken", row["said"]) for row in answer["tested"]]
    return _drawn(("channel", "", "what came of it"), cells)
