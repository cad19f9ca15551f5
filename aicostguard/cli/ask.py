"""Where the CLI gets its answers: straight from the ledger's file, or from a running ledger over HTTP.

Owns that choice. Both ways lead to `ledger.query`, so that a table, the API and a page never differ.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Sequence
from urllib.parse import urlencode

from aicostguard import config, ledger
from aicostguard.cli import chosen
from aicostguard.ledger import deliveries, query
from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.sqlite import SqliteStore

Parameters = Mapping[str, Sequence[str]]


class Answer(NamedTuple):
    """What `GET /v1/costs` says, and whether the ledger holds no receipt at all."""

    body: dict[str, Any]
    empty: bool


def place(path: str | None) -> str:
    """The ledger's file: `path` if given, else that of AICG_URL=sqlite:///…, else the default one."""
    return path or config.load(os.environ).sqlite_path or ledger.default_path()


def present(path: str | None) -> str:
    """`place`, if there is a ledger. Raises `LedgerError` with the ways to get one."""
    path = place(path)
    if not os.path.exists(path):
        raise LedgerError(
            f"there is no ledger at {path} yet. Start one with `aicg serve`, or let a program make it with "
            f"AICG_URL=sqlite:///{path}; --db names another file, --url a running ledger"
        )
    return path


@contextlib.contextmanager
def opened(path: str | None, *, create: bool = False) -> Iterator[SqliteStore]:
    """The ledger file at `path`, or the default one; its inbox taken in. Raises `LedgerError`."""
    path = place(path) if create else present(path)
    store = ledger.open_ledger(path)
    try:
        yield store
    finally:
        store.close()


class Unreachable(LedgerError):
    """No ledger answers there now, or it says that it cannot: worth another try."""


class Place(NamedTuple):
    """Where to ask: the file at `path` (None for the default one), or the ledger at `url` with `key`."""

    path: str | None
    url: str | None = None
    key: str = ""


def where(path: str | None, url: str | None, key: str | None) -> Place:
    """`path` before `url` before AICG_URL before the default file. Raises `LedgerError` without a key for a URL."""
    settings = config.load(os.environ)
    if path is None and url is None and settings.url is not None and settings.sqlite_path is None:
        url = settings.url
    if path is not None or url is None:
        return Place(path)
    key = key or settings.key
    if not key:
        raise LedgerError("asking over HTTP needs a key: set AICG_KEY or give --key, or ask the file with --db")
    return Place(None, url, key)


def costs(parameters: Parameters, path: str | None, url: str | None, key: str | None) -> Answer:
    """Ask for costs. Raises `LedgerError`."""
    at = where(path, url, key)
    if at.url is None:
        with opened(at.path) as store:
            project = chosen.of(store)
            body = query.run(store, query.parse(parameters, project, ledger.now_ms()))
            return Answer(body, store.first_at(project) is None)
    body = get(at, "costs", parameters)
    empty = body["totals"]["calls"] == 0 and get(at, "costs", {"since": ["all"]})["totals"]["calls"] == 0
    return Answer(body, empty)


def books(parameters: Parameters, at: Place) -> dict[str, Any]:
    """What `GET /v1/deliveries` says. Raises `LedgerError`."""
    if at.url is not None:
        return get(at, "deliveries", parameters)
    with opened(at.path) as store:
        asked = deliveries.parse(parameters, chosen.of(store), ledger.now_ms())
        return deliveries.run(store, asked, ledger.now_ms())


#: (name of a question, its parameters) → the answer
Asker = Callable[[str, Parameters], dict[str, Any]]


@contextlib.contextmanager
def following(at: Place) -> Iterator[Asker]:
    """Ask `receipts`, `arrivals` and `costs` again and again: the file stays open in between."""
    if at.url is not None:
        yield lambda name, parameters: get(at, name, parameters)
        return
    with opened(at.path) as store:
        project = chosen.of(store)

        def ask(name: str, parameters: Parameters) -> dict[str, Any]:
            ledger.drain(store)
            if name == "arrivals":
                return query.arrivals(store, parameters, project)
            if name == "costs":
                return query.run(store, query.parse(parameters, project, ledger.now_ms()))
            return query.receipts(store, parameters, project, ledger.now_ms())

        yield ask


#: question → a key that every answer to it has
_KNOWN_BY = {
    "costs": "totals",
    "deliveries": "totals",
    "receipts": "receipts",
    "arrivals": "cursor",
    "compare": "models",
    "agents": "agents",
    "focus": "focus",
}


def get(at: Place, name: str, parameters: Parameters) -> dict[str, Any]:
    """What `GET /v1/NAME` says. Raises `Unreachable`, `Refused` for a wrong parameter, else `LedgerError`."""
    body = exchange(at, "GET", f"{name}?{urlencode(parameters, doseq=True)}")
    if _KNOWN_BY[name] not in body:
        raise LedgerError(f"{at.url} answers, but not as a ledger does")
    return body


def exchange(at: Place, method: str, path: str, sent: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the ledger answers to `METHOD /v1/PATH`. Raises as `get`, and `Refused` (404) for what is not there."""
    from aicostguard.cli import remote  # HTTP and ssl are for those who ask over the network

    return remote.exchange(at, method, path, sent)
