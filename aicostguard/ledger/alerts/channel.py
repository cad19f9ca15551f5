"""Where a project's alerts are told: addresses, and who may see what of them.

Owns the table `alert_channels`, what a channel may be, and what is shown of it. An address is a secret (whoever has it
writes into somebody's channel): it goes into the file and to the sender, and nowhere else.
"""

from __future__ import annotations

import re
import sqlite3
from typing import Any, Mapping, NamedTuple
from urllib.parse import urlsplit

from aicostguard.guard import rules
from aicostguard.ledger import period
from aicostguard.ledger.alerts import apprised, webhook
from aicostguard.ledger.errors import Refused

KINDS = ("webhook", "apprise")
MOST = 50
#: hosts whose own addresses apprise understands
_NATIVE = ("hooks.slack.com", "discord.com", "discordapp.com", "webhook.office.com", "logic.azure.com")
_SECRET = re.compile(r"[\x21-\x7e]{16,256}\Z")
_KEYS = ("name", "url", "kind", "secret", "enabled")


class Channel(NamedTuple):
    """A channel as it is kept. `shown` is what is shown of its address."""

    id: int
    project_id: int
    name: str
    kind: str
    shown: str
    url: str
    secret: str
    enabled: bool
    changed_ms: int
    who: str

    def __repr__(self) -> str:
        """Without the address and the secret: this is what a traceback or a log would show."""
        return f"Channel({self.name!r}, {self.kind}, {self.shown!r})"


_COLUMNS = "id, project_id, name, kind, shown, url, secret, enabled, changed_ms, who"


def _channel(row: tuple[Any, ...]) -> Channel:
    return Channel._make((*row[:7], bool(row[7]), *row[8:]))


def of_project(connection: sqlite3.Connection, project_id: int) -> list[Channel]:
    found = connection.execute(f"SELECT {_COLUMNS} FROM alert_channels WHERE project_id = ? ORDER BY id", (project_id,))
    return [_channel(row) for row in found]


def need(connection: sqlite3.Connection, project_id: int, name: str) -> Channel:
    """The channel of this name. Raises `Refused` (404) that names what there is."""
    every = of_project(connection, project_id)
    for channel in every:
        if channel.name == name:
            return channel
    known = ", ".join(channel.name for channel in every[:20]) or "none yet"
    raise Refused(404, f"there is no channel {name[:128]!a}; there are {known}", "name")


def by_id(connection: sqlite3.Connection, number: int) -> Channel | None:
    row = connection.execute(f"SELECT {_COLUMNS} FROM alert_channels WHERE id = ?", (number,)).fetchone()
    return None if row is None else _channel(row)


class Stated(NamedTuple):
    """A channel as somebody states it, checked."""

    name: str
    kind: str
    shown: str
    url: str
    secret: str
    enabled: bool


def read(given: Mapping[str, Any], old: Channel | None = None) -> Stated:
    """A channel from JSON; what is left out stays as it was. Raises `Refused` (422), without a word of the address."""
    for key in given:
        if key not in _KEYS:
            raise Refused(422, f"is no key of a channel: {rules.meant(str(key), _KEYS)}", ascii(str(key)[:64])[1:-1])
    name = given.get("name", old.name if old else None)
    if not isinstance(name, str) or not re.match(r"[\w.:@ -]{1,128}\Z", name):
        raise Refused(422, "must be 1 to 128 letters, digits, blanks or any of _ . : @ -", "name")
    enabled = given.get("enabled", old.enabled if old else True)
    if not isinstance(enabled, bool):
        raise Refused(422, "must be true or false", "enabled")
    if old is not None and "url" not in given and "kind" not in given:
        kind, shown, url = old.kind, old.shown, old.url
    else:
        kind, shown, url = _address(given.get("url", old.url if old else None), given.get("kind"))
    return Stated(name, kind, shown, url, _secret(given, kind, old), enabled)


def _secret(given: Mapping[str, Any], kind: str, old: Channel | None) -> str:
    if kind != "webhook":
        if given.get("secret"):
            raise Refused(422, "is what a webhook is signed with; this channel is none", "secret")
        return ""
    secret = given.get("secret") or (old.secret if old else "") or webhook.make_secret()
    if not isinstance(secret, str) or not _SECRET.match(secret):
        raise Refused(422, "must be 16 to 256 visible ASCII characters; leave it out and one is made", "secret")
    return secret


def _address(url: Any, kind: Any) -> tuple[str, str, str]:
    """`(kind, shown, url)`."""
    if kind is not None and kind not in KINDS:
        raise Refused(422, f"must be one of {', '.join(KINDS)}, or left out", "kind")
    how = "use https://… for a signed webhook, or an address of apprise such as slack://…, mailto://…, pagerduty://…"
    if not isinstance(url, str) or not 8 <= len(url) <= 2048 or not url.isprintable() or " " in url:
        raise Refused(422, f"is missing, or no address: {how}", "url")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise Refused(422, f"is no address: {how}", "url") from None
    if not parts.scheme or "://" not in url:
        raise Refused(422, f"is no address: {how}", "url")
    web = parts.scheme in ("http", "https")
    if kind is None:
        native = any(host == one or host.endswith("." + one) for one in _NATIVE)
        kind = "webhook" if web and not native else "apprise"
    if kind == "apprise":
        found = apprised.check(url)
        if not found.service:
            raise Refused(422, found.error or "apprise did not answer", "url")
        return kind, f"{parts.scheme}://•••• ({found.service})", url
    if not web or not host:
        raise Refused(422, "of a webhook must be http(s)://host[:port]/path", "url")
    if parts.username or parts.password or parts.fragment:
        raise Refused(422, "of a webhook has no user, password or fragment: who sends is known by the signature", "url")
    return kind, f"{parts.scheme}://{parts.netloc}/••••", url


def add(connection: sqlite3.Connection, project_id: int, stated: Stated, who: str, now_ms: int) -> Channel:
    names = [channel.name for channel in of_project(connection, project_id)]
    if stated.name in names:
        raise Refused(422, f"is taken: there is a channel {stated.name!a} already", "name")
    if len(names) >= MOST:
        raise Refused(422, f"there are {MOST} channels already", "name")
    connection.execute(
        "INSERT INTO alert_channels (project_id, name, kind, shown, url, secret, enabled, changed_ms, who) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (project_id, *stated, now_ms, who),
    )
    return need(connection, project_id, stated.name)


def change(
    connection: sqlite3.Connection, project_id: int, name: str, stated: Stated, who: str, now_ms: int
) -> Channel:
    kept = need(connection, project_id, name)
    others = [channel.name for channel in of_project(connection, project_id) if channel.id != kept.id]
    if stated.name in others:
        raise Refused(422, f"is taken: there is a channel {stated.name!a} already", "name")
    connection.execute(
        "UPDATE alert_channels SET name = ?, kind = ?, shown = ?, url = ?, secret = ?, enabled = ?, changed_ms = ?, "
        "who = ? WHERE id = ?",
        (*stated, now_ms, who, kept.id),
    )
    return need(connection, project_id, stated.name)


def remove(connection: sqlite3.Connection, project_id: int, name: str) -> None:
    """Forget a channel, and what was still to be sent there."""
    kept = need(connection, project_id, name)
    connection.execute(
        "DELETE FROM alert_attempts WHERE notice_id IN (SELECT id FROM alert_notices WHERE channel_id = ?)", (kept.id,)
    )
    connection.execute("DELETE FROM alert_notices WHERE channel_id = ?", (kept.id,))
    connection.execute("DELETE FROM alert_channels WHERE id = ?", (kept.id,))


def told(channel: Channel) -> dict[str, Any]:
    """What is shown of a channel."""
    return {
        "name": channel.name,
        "kind": channel.kind,
        "url": channel.shown,
        "enabled": channel.enabled,
        "changed_at": period.iso(channel.changed_ms, period.zone("UTC")),
        "changed_by": channel.who,
    }
