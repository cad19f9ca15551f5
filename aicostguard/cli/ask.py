"""Where the CLI gets its answers: straight from the ledger's file, or from a running ledger over HTTP.

Owns that choice. Both ways lead to `ledger.query`, so that a table, the API and a page never differ.
"""

from __future__ import annotations

import contextlib
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Iterator, Mapping, NamedTuple, Sequence

from aicostguard import config, ledger
from aicostguard.ledger import query
from aicostguard.ledger.errors import LedgerError, Refused
from aicostguard.ledger.sqlite import SqliteStore

TIMEOUT_S = 60

Parameters = Mapping[str, Sequence[str]]


class Answer(NamedTuple):
    """What `GET /v1/costs` says, and whether the ledger holds no receipt at all."""

    body: dict[str, Any]
    empty: bool


def place(path: str | None) -> str:
    """The ledger's file: `path` if given, else that of AICG_URL=sqlite:///…, else the default one."""
    return path or config.load(os.environ).sqlite_path or ledger.default_path()


@contextlib.contextmanager
def opened(path: str | None, *, create: bool = False) -> Iterator[SqliteStore]:
    """The ledger file at `path`, or the default one; its inbox taken in. Raises `LedgerError`."""
    path = place(path)
    if not create and not os.path.exists(path):
        raise LedgerError(
            f"there is no ledger at {path} yet. Start one with `aicg serve`, or let a program make it with "
            f"AICG_URL=sqlite:///{path}; --db names another file, --url a running ledger"
        )
    store = ledger.open_ledger(path)
    try:
        yield store
    finally:
        store.close()


def costs(parameters: Parameters, path: str | None, url: str | None, key: str | None) -> Answer:
    """Ask for costs: `path` before `url` before AICG_URL before the default file. Raises `LedgerError`."""
    settings = config.load(os.environ)
    if path is None and url is None and settings.url is not None and settings.sqlite_path is None:
        url = settings.url
    if path is not None or url is None:
        with opened(path) as store:
            project = store.default_project()
            body = query.run(store, query.parse(parameters, project, ledger.now_ms()))
            return Answer(body, store.first_at(project) is None)
    key = key or settings.key
    if not key:
        raise LedgerError("asking over HTTP needs a key: set AICG_KEY or give --key, or ask the file with --db")
    body = _get(url, key, parameters)
    empty = body["totals"]["calls"] == 0 and _get(url, key, {"since": ["all"]})["totals"]["calls"] == 0
    return Answer(body, empty)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """No redirect is followed: a key is sent to the address that was given, and to no other."""


def _get(url: str, key: str, parameters: Parameters) -> dict[str, Any]:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise LedgerError(f"{url!r} is no address of a ledger; use http(s)://host[:port]")
    full = f"{url.rstrip('/')}/v1/costs?{urllib.parse.urlencode(parameters, doseq=True)}"
    request = urllib.request.Request(full, headers={"Authorization": f"Bearer {key}"})
    handlers: list[Any] = [_NoRedirect()]
    if parts.hostname in config.LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S) as reply:
            body = json.load(reply)
    except urllib.error.HTTPError as error:
        raise _refused(url, error) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise LedgerError(f"no ledger answers at {url} ({reason}); is `aicg serve` running?") from None
    if not isinstance(body, dict) or "totals" not in body:
        raise LedgerError(f"{url} answers, but not as a ledger does")
    return body


def _refused(url: str, error: urllib.error.HTTPError) -> LedgerError:
    try:
        body = json.load(error)
        text, field = str(body["error"]), str(body.get("field", ""))
    except (ValueError, KeyError, TypeError, OSError):
        text, field = f"HTTP {error.code}", ""
    if error.code == 422:
        return Refused(422, text, field)
    return LedgerError(f"{url}: {text}")
