"""Channels: where alerts are told, what came of it, and whether it works."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from aicostguard.ledger.errors import Refused
from aicostguard.ledger.web.plain import rules as plain
from aicostguard.ledger.web.view import View

#: messages of a channel that are shown
LOG = 50


def show(view: View, made: dict[str, Any] | None = None, tested: list[dict[str, Any]] | None = None) -> Response:
    """All channels; `made` is one with the secret that is said this once."""
    log = view.state.one("log")
    return view.show(
        "channels.html",
        channels=[(row, *plain.sent(row["last"])) for row in view.office.channels()["channels"]],
        log=log,
        messages=[(row, *plain.sent(row)) for row in view.office.log(log, LOG)["log"]] if log else [],
        made=made,
        tested=tested or [],
        private=view.site.watch.settings.private,
    )


def add(view: View) -> Response:
    """A new one. A webhook's secret stands in the answer, and nowhere afterwards."""
    kind = view.form.get("kind", "")
    made = view.office.add_channel(
        {
            "name": view.form.get("name", "").strip(),
            "url": view.form.get("url", "").strip(),
            **({"kind": kind} if kind else {}),
        }
    )
    if made.get("secret"):
        view.form = {}
        return show(view, made=made)
    return view.go(view.address("/alerts/channels"), f"The channel {made['name']} is there; send a test.")


def test(view: View) -> Response:
    """Send one now, and say what came of it."""
    return show(view, tested=view.office.test(view.form.get("name") or None)["tested"])


def switch(view: View) -> Response:
    wanted = view.form.get("enabled") == "1"
    name = view.form.get("name", "")
    view.office.change_channel(name, {"enabled": wanted})
    return view.go(view.address("/alerts/channels"), f"The channel {name} is {'on' if wanted else 'off'}.")


def remove(view: View) -> Response:
    name = view.form.get("name", "")
    if not name:
        raise Refused(422, "is missing", "name")
    view.office.remove_channel(name)
    return view.go(view.address("/alerts/channels"), f"The channel {name} is gone.")


ACTIONS = {"add": add, "test": test, "switch": switch, "remove": remove}
