"""Sessions: what a browser holds after a log-in, how long it is good, and whether a change really comes from our page.

Owns the cookies and the rows behind them, of which the ledger has hashes only. A browser sends cookies along with
whatever page asks for it, so a change needs a second sign: the browser's own word that our page asks
(`Sec-Fetch-Site`, or `Origin`), which no page can forge. No token has to be carried through every form for that.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from aicostguard.ledger import secret
from aicostguard.ledger.errors import Refused

if TYPE_CHECKING:  # the command line opens links, and has no use for a framework
    from starlette.requests import HTTPConnection
    from starlette.responses import Response

#: unused for this long, or this old, it ends
IDLE_MS, MOST_MS = 12 * 3_600_000, 7 * 24 * 3_600_000
#: how long a browser is known that has logged in before
DEVICE_MS = 180 * 24 * 3_600_000
#: sessions of one person; beyond, the oldest ends
MOST_SESSIONS = 50
_SAFE = ("GET", "HEAD", "OPTIONS")


class Session(NamedTuple):
    #: its hash
    id: str
    person_id: int
    created_ms: int
    seen_ms: int


def begin(connection: sqlite3.Connection, person_id: int, address: str, now_ms: int) -> str:
    """A new session; returns its token."""
    token = secret.make("aicgs_")
    connection.execute(
        "DELETE FROM sessions WHERE seen_ms <= ? OR created_ms <= ?", (now_ms - IDLE_MS, now_ms - MOST_MS)
    )
    connection.execute(
        "INSERT INTO sessions VALUES (?, ?, ?, ?, ?)", (secret.hash_key(token), person_id, now_ms, now_ms, address)
    )
    connection.execute(
        "DELETE FROM sessions WHERE person_id = ? AND hash NOT IN "
        "(SELECT hash FROM sessions WHERE person_id = ? ORDER BY created_ms DESC, hash LIMIT ?)",
        (person_id, person_id, MOST_SESSIONS),
    )
    return token


def found(connection: sqlite3.Connection, token: str) -> Session | None:
    """The session of a token, in force or not."""
    row = connection.execute(
        "SELECT hash, person_id, created_ms, seen_ms FROM sessions WHERE hash = ?", (secret.hash_key(token),)
    ).fetchone()
    return None if row is None else Session(*row)


def end(connection: sqlite3.Connection, token: str | None) -> None:
    """End one."""
    if token:
        connection.execute("DELETE FROM sessions WHERE hash = ?", (secret.hash_key(token),))


def end_all(connection: sqlite3.Connection, person_id: int) -> None:
    """End all that a person has, everywhere; no browser is known any more."""
    for table in ("sessions", "devices"):
        connection.execute(f"DELETE FROM {table} WHERE person_id = ?", (person_id,))


def seen(connection: sqlite3.Connection, when: dict[str, int]) -> None:
    """Keep when sessions were last used, those that keys began as well."""
    for table in ("sessions", "key_sessions"):
        connection.executemany(
            f"UPDATE {table} SET seen_ms = max(seen_ms, ?) WHERE hash = ?", [(at, name) for name, at in when.items()]
        )


def device(connection: sqlite3.Connection, person_id: int, now_ms: int) -> str:
    """A mark for a browser that has logged in."""
    token = secret.make("aicgd_")
    connection.execute("DELETE FROM devices WHERE created_ms <= ?", (now_ms - DEVICE_MS,))
    connection.execute("INSERT INTO devices VALUES (?, ?, ?)", (secret.hash_key(token), person_id, now_ms))
    return token


def known_device(connection: sqlite3.Connection, token: str | None, person_id: int, now_ms: int) -> str | None:
    """The hash of a browser's mark, if it is one of this person."""
    row = connection.execute(
        "SELECT hash FROM devices WHERE hash = ? AND person_id = ? AND created_ms > ?",
        (secret.hash_key(token or ""), person_id, now_ms - DEVICE_MS),
    ).fetchone()
    return None if row is None else str(row[0])


# The browser's side.


def _named(request: HTTPConnection, name: str) -> str:
    # With __Host- a browser takes it over TLS only, for this host and no other: no sister domain can plant one.
    return f"__Host-{name}" if request.url.scheme == "https" else name


def token_of(request: HTTPConnection, name: str = "aicg_session") -> str | None:
    """What a cookie of ours holds."""
    return request.cookies.get(_named(request, name))


def set_cookie(
    request: HTTPConnection, response: Response, value: str, name: str = "aicg_session", most_ms: int = MOST_MS
) -> None:
    """Give a browser a cookie that no script reads and no other site's form sends."""
    response.set_cookie(
        _named(request, name),
        value,
        max_age=most_ms // 1000,
        path="/",
        secure=request.url.scheme == "https",
        httponly=True,
        samesite="lax",
    )


def drop_cookie(request: HTTPConnection, response: Response, name: str = "aicg_session") -> None:
    response.delete_cookie(
        _named(request, name), path="/", secure=request.url.scheme == "https", httponly=True, samesite="lax"
    )


def from_our_page(request: HTTPConnection, *, else_refused: bool = True) -> None:
    """Refuse (403) a change that another site's page asks for; and one of which nothing says who asks, if so wished."""
    if request.scope.get("method") in _SAFE:
        return
    site, origin = request.headers.get("sec-fetch-site"), request.headers.get("origin")
    ours = f"{request.url.scheme}://{request.headers.get('host', '')}".lower()
    if site is not None:
        good = site in ("same-origin", "none")
    elif origin is not None:
        good = origin.lower() == ours
    else:
        good = not else_refused
    if not good:
        raise Refused(
            403,
            "the browser does not say that our own page asks for this; use that page, or a key in the header "
            "Authorization. Behind a proxy that ends TLS, name it with `aicg serve --forwarded-allow`",
            "Origin",
        )
