"""From a notice to a message: the body of a webhook, the text of a chat or a mail.

Owns the shape of both. The same notice gives the same message whenever it is sent. Pure.
"""

from __future__ import annotations

import base64
import json
from typing import Any, Mapping, NamedTuple
from urllib.parse import urlsplit

from aicostguard.ledger import period
from aicostguard.ledger.alerts import outbox, words
from aicostguard.ledger.alerts.outbox import Notice
from aicostguard.ledger.alerts.picture import MEDIA_TYPE, Picture
from aicostguard.ledger.alerts.rule import ACTIONS

_UTC = period.zone("UTC")
TEST: Mapping[str, Any] = {
    "rule": "test",
    "kind": "test",
    "action": "flag",
    "period": "",
    "alerts": [
        {
            "id": 0,
            "text": "This is a test of AI Cost Guard: alerts arrive here",
            "subject": "",
            "group": {},
            "value": "0",
            "threshold": "0",
            "unit": "",
            "value_nano": 0,
            "line_nano": 0,
            "started_ms": 0,
            "unpriced_calls": 0,
            "view": {"since": "24h", "group_by": "model"},
        }
    ],
}


class Message(NamedTuple):
    """A message for a service of apprise; `kind` is its word for how bad it is."""

    title: str
    body: str
    kind: str


def payload(notice: Notice, channel: str, where: words.Where, picture: Picture | None = None) -> bytes:
    """The body of a webhook. The picture is inside: it needs no key, and nothing that could be guessed or run out."""
    message = notice.message
    alerts = []
    for alert, line in zip(message["alerts"], outbox.lines(message, notice.event)):
        told = {
            "id": alert["id"],
            "text": line,
            "group": alert["group"],
            "value": alert["value"],
            "threshold": alert["threshold"],
            "unit": alert["unit"],
            "since": period.iso(alert["started_ms"], _UTC),
            "unpriced_calls": alert["unpriced_calls"],
            "url": words.link(where, alert["view"]) or None,
        }
        alerts.append(told)
    body = {
        "id": notice.key,
        "event": notice.event,
        "created_at": period.iso(notice.created_ms, _UTC),
        "channel": channel,
        "rule": message["rule"],
        "kind": message["kind"],
        "action": message["action"],
        "text": words.title(notice.event, [alert["text"] for alert in alerts]),
        "alerts": alerts,
        "chart": None if picture is None else _chart(picture),
    }
    return json.dumps(body, separators=(",", ":")).encode("ascii")


def _chart(picture: Picture) -> dict[str, str]:
    return {
        "title": picture.title,
        "description": picture.says,
        "content_type": MEDIA_TYPE,
        "base64": base64.b64encode(picture.data).decode("ascii"),
    }


def text(notice: Notice, url: str, where: words.Where) -> Message:
    """The message for a service of apprise at `url`."""
    message = notice.message
    slack = urlsplit(url).scheme == "slack" or urlsplit(url).hostname == "hooks.slack.com"
    said = outbox.lines(message, notice.event, slack)
    title = words.title(notice.event, outbox.lines(message, notice.event))
    out = []
    for alert, line in list(zip(message["alerts"], said))[: words.MOST_LINES]:
        out.append(("Resolved: " if notice.event == "resolved" else "") + line)
        if alert["unpriced_calls"]:
            out.append(f"{words.counted(alert['unpriced_calls'], 'call')} without a price in no sum")
        link = words.link(where, alert["view"])
        if link:
            out.append(link)
    if len(said) > words.MOST_LINES:
        out.append(f"and {len(said) - words.MOST_LINES} more: aicg alerts")
    out.append(f"Rule {words.name(message['rule'])}, action: {message['action']}")
    if notice.again:
        out.append("This may have reached you before: the ledger was stopped while it was sent.")
    kind = "success" if notice.event == "resolved" else ACTIONS.get(message["action"], "info")
    return Message(title, "\n".join(out), kind)
