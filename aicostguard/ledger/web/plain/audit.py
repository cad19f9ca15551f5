"""The audit log as lines that people read: who did what to what, and what stood there before. Pure.

Owns words. A kind of entry that is not known here is shown by its own name, so nothing is ever left out.
"""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Mapping, NamedTuple

from aicostguard.ledger.web import words

#: what an entry calls it → what somebody did
DID: Mapping[str, str] = {
    "alert.acknowledged": "looks after alert",
    "alert.snoozed": "snoozed alert",
    "alert_channel.changed": "changed the channel",
    "alert_channel.created": "added the channel",
    "alert_channel.removed": "removed the channel",
    "alert_rule.changed": "changed the alert rule",
    "alert_rule.created": "made the alert rule",
    "alert_rule.removed": "removed the alert rule",
    "budget.adjusted": "set what is spent of the budget",
    "budget.changed": "changed the budget",
    "budget.created": "made the budget",
    "budget.rebuilt": "counted anew the budget",
    "budget.removed": "removed the budget",
    "key.changed": "changed the key",
    "key.created": "made the key",
    "key.revoked": "revoked the key",
    "key.rotated": "replaced the key",
    "login": "logged in",
    "login.held": "was held up at the log-in of",
    "login.refused": "was refused at the log-in of",
    "logout": "logged out",
    "logout.everywhere": "logged out everywhere",
    "organisation.changed": "changed the organisation",
    "organisation.created": "made the organisation",
    "person.code": "made a log-in code for",
    "person.created": "made an account for",
    "person.disabled": "disabled the account of",
    "person.enabled": "enabled the account of",
    "person.linked": "logged in by a provider for the first time as",
    "person.password": "set a password for",
    "person.role": "changed the role of",
    "policy.changed": "changed what happens to calls that cannot be counted: the",
    "prices.changed": "changed the prices of",
    "prices.applied": "priced waiting calls of",
    "project.changed": "changed the project",
    "project.created": "made the project",
    "retention.changed": "changed how long receipts stay in",
    "retention.created": "set how long receipts stay in",
    "retention.removed": "let receipts stay for good in",
    "user forgotten": "had a user forgotten:",
}
#: what is said once: whoever logs in is the one who is logged in
_ITSELF = ("login", "logout", "logout.everywhere")


class Line(NamedTuple):
    """One entry. `changes` are (what, before, after), each as text; "" where there was, or is, nothing."""

    id: int
    at: str
    who: str
    address: str
    did: str
    target: str
    changes: tuple[tuple[str, str, str], ...]


def lines(entries: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    """The entries of an answer."""
    for entry in entries:
        what = entry["what"]
        target = "" if what in _ITSELF and entry["target"] == entry["who"] else entry["target"]
        yield Line(
            entry["id"],
            entry["at"],
            entry["who"],
            entry["address"],
            DID.get(what, what),
            target,
            tuple(_changes(entry["before"] or {}, entry["after"] or {})),
        )


def _changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for name in dict.fromkeys((*before, *after)):
        old, new = _text(name, before.get(name)), _text(name, after.get(name))
        if old != new:
            yield _called(name), old, new


def _called(name: str) -> str:
    return name.removesuffix("_ms").replace("_", " ")


def _text(name: str, value: Any) -> str:
    if value is None or value == [] or value == {}:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_ms") and isinstance(value, int):
        return words.moment(words.iso(value)) + " UTC"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_text(key, item)}" for key, item in value.items())
    return ", ".join(_text("", item) for item in value) if isinstance(value, (list, tuple)) else str(value)
