"""Sends one message through apprise, in a process of its own: `python -P child.py`, the order on stdin as JSON.

Owns what happens in that process: which addresses it may connect to (an audit hook sees each connection that Python
makes, whatever library makes it), that no redirect is followed, and that nothing of the channel's address is printed.
Apprise brings a hundred and forty services by as many people; what one of them does wrong stays here, and ends by the
parent's deadline. Imports nothing of the ledger's but `target`, by its path.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import logging
import os
import re
import sys
from typing import Any


def _target() -> Any:
    place = os.path.join(os.path.dirname(os.path.abspath(__file__)), "target.py")
    spec = importlib.util.spec_from_file_location("aicg_target", place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Guard:
    """Refuses connections to addresses that are not allowed, and remembers why."""

    def __init__(self, allowed: str) -> None:
        self._target = _target()
        self._allowed = self._target.networks(allowed)
        self.why = ""

    def __call__(self, event: str, arguments: Any) -> None:
        if event not in ("socket.connect", "socket.sendto"):
            return
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) and address else ""
        why = self._target.why_not(host, self._allowed)
        if why:
            self.why = why
            raise PermissionError(why)


class Said(logging.Handler):
    """What apprise warns of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _follow_nothing() -> None:
    import requests

    def nowhere(self: Any, response: Any) -> None:
        return None

    setattr(requests.Session, "get_redirect_target", nowhere)  # noqa: B010 (mypy takes no other)


def masked(text: str, url: str) -> str:
    """A text without any part of the address that could be a secret."""
    for part in sorted(set(re.split(r"[:/?&=#@,]+", url)), key=len, reverse=True):
        if len(part) > 3:
            text = text.replace(part, "••••")
    return " ".join(text.split())[:200]


def main() -> int:
    order = json.load(sys.stdin)
    url = order["url"]
    guard = Guard(order["allowed"])
    try:
        import apprise
    except ImportError:
        return answer(ok=False, error="apprise is not installed here: pip install 'aicostguard[alerts]'")
    said = Said()
    for name in ("apprise", "urllib3", "requests"):
        logging.getLogger(name).handlers[:] = [said]
        logging.getLogger(name).propagate = False
    service = apprise.Apprise.instantiate(url, suppress_exceptions=True)
    if service is None:
        why = masked("; ".join(said.texts), url) or "its form is not known"
        return answer(ok=False, bad=True, error=f"apprise takes no such address: {why}")
    # Files, commands and desktops of the ledger's machine are no places to send to.
    if type(service).__name__ in ("NotifySyslog", "NotifyDBus", "NotifyGnome", "NotifyMacOSX", "NotifyWindows"):
        return answer(ok=False, bad=True, error="is a place on the ledger's own machine; name a service to send to")
    name = str(service.service_name)
    if order["check"]:
        return answer(ok=True, service=name)
    _follow_nothing()
    sys.addaudithook(guard)
    service.redirects = False
    service.socket_connect_timeout = service.socket_read_timeout = order["timeout"]
    if getattr(service, "dedup", "") is None:  # PagerDuty: a second sending is known by it
        setattr(service, "dedup", order["key"])  # noqa: B010
    try:
        sent = service.notify(
            body=order["body"],
            title=order["title"],
            notify_type=apprise.NotifyType(order["type"]),
            body_format=apprise.NotifyFormat.TEXT,
            attach=attached(service, order["picture"]),
        )
    except Exception as error:
        return answer(ok=False, service=name, error=f"apprise failed ({type(error).__name__})")
    why = guard.why or masked("; ".join(said.texts), url) or "it was not taken"
    return answer(ok=bool(sent), service=name, error="" if sent else why, refused=bool(guard.why))


def attached(service: Any, picture: str) -> Any:
    """The picture for a service that takes files, else None."""
    if not picture or not service.attachment_support:
        return None
    import apprise
    from apprise.attachment.memory import AttachMemory

    make: Any = AttachMemory
    return apprise.AppriseAttachment(make(content=base64.b64decode(picture), name="chart.png", mimetype="image/png"))


def answer(**what: Any) -> int:
    sys.stdout.write(json.dumps(what))
    return 0


if __name__ == "__main__":
    sys.exit(main())
