"""`aicg dashboard`, as a click command: open the dashboard in a browser, logged in.

Owns its options and when a browser is started. It works on the ledger's file: whoever may write it may open it.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import webbrowser

import click

from aicostguard import ledger
from aicostguard.cli import VERBS, access, ask
from aicostguard.ledger.access import keyring, opened
from aicostguard.ledger.access.opened import DEFAULT_HOST, DEFAULT_PORT, PUBLIC_URL
from aicostguard.ledger.errors import Refused


@click.command(short_help=VERBS["dashboard"])
@click.option("--url", help=f"Where it is served. Default: {PUBLIC_URL}, else http://{DEFAULT_HOST}:{DEFAULT_PORT}.")
@click.option("--print", "only_print", is_flag=True, help="Print the link and start no browser.")
@access.IN_PROJECT
@access.JSON
@access.DB
def dashboard(url: str | None, only_print: bool, within: str | None, as_json: bool, path: str | None) -> int:
    """Print a link that opens the dashboard of a running ledger, and open it where there is a browser.

    The link is good once, for ten minutes, and stands for the project's key that may most. People with accounts log in
    with their password instead: /login.
    """
    where = (url or os.environ.get(PUBLIC_URL, "") or f"http://{DEFAULT_HOST}:{DEFAULT_PORT}").rstrip("/")
    if not where.startswith(("http://", "https://")):
        raise click.BadParameter(f"{where!r} is no address; use http://127.0.0.1:8090", param_hint="--url")
    with ask.opened(path) as store:

        def job(connection: sqlite3.Connection) -> str:
            now_ms = ledger.now_ms()
            number = access.project(connection, store, within).id
            found = [
                key
                for key in keyring.listed(connection, number)
                if "read" in key.scopes and key.revoked_ms is None and (key.expires_ms or now_ms + 1) > now_ms
            ]
            if not found:
                raise Refused(404, "no key in force may read here; make one: aicg keys create --role admin")
            return opened.link(connection, max(found, key=lambda key: len(key.scopes)).id, now_ms)

        link = opened.address(where, store.change(job))
    access.say(as_json, {"link": link}, link + "\n")
    if not only_print and not as_json and sys.stdout.isatty() and _has_browser():
        webbrowser.open(link)
    return 0


def _has_browser() -> bool:
    """Whether a browser would have a screen of its own: one in the terminal is not what is wanted."""
    return sys.platform == "darwin" or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
