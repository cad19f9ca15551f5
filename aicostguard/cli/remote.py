"""One exchange with a running ledger over HTTP, for `ask`. Apart from it because `ssl` and `http.client` come with it.

Owns where a key may go: to the address that was given, and past no redirect.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any, Mapping

from aicostguard import config
from aicostguard.cli import chosen
from aicostguard.cli.ask import Place, Unreachable
from aicostguard.ledger.errors import LedgerError, Refused

TIMEOUT_S = 60


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """No redirect is followed: a key is sent to the address that was given, and to no other."""


def exchange(at: Place, method: str, path: str, sent: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the ledger answers to `METHOD /v1/PATH`. Raises as `get`, and `Refused` (404) for what is not there."""
    url = at.url or ""
    parts = _parts(url)
    if parts is None:
        raise LedgerError(f"{url!r} is no address of a ledger; use http(s)://host[:port]")
    data = None if sent is None else json.dumps(sent).encode()
    headers = {"Authorization": f"Bearer {at.key}"}
    if project := chosen.name():
        headers["AICG-Project"] = project
    request = urllib.request.Request(f"{url.rstrip('/')}/v1/{path}", data, headers, method=method)
    handlers: list[Any] = [_NoRedirect()]
    if parts.hostname in config.LOOPBACK:
        handlers.append(urllib.request.ProxyHandler({}))
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=TIMEOUT_S) as reply:
            body = json.load(reply)
    except urllib.error.HTTPError as error:
        raise _refused(url, error) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        raise Unreachable(f"no ledger answers at {url} ({reason}); is `aicg serve` running?") from None
    if not isinstance(body, dict):
        raise LedgerError(f"{url} answers, but not as a ledger does")
    return body


def _parts(url: str) -> urllib.parse.SplitResult | None:
    """The parts of a ledger's address; None for what is none."""
    try:
        parts = urllib.parse.urlsplit(url)
        return parts if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 else None
    except ValueError:  # an open bracket, a port that is no number
        return None


def _refused(url: str, error: urllib.error.HTTPError) -> LedgerError:
    try:
        body = json.load(error)
        text, field = str(body["error"]), str(body.get("field", ""))
    except (ValueError, KeyError, TypeError, OSError, http.client.HTTPException):
        text, field = f"HTTP {error.code}", ""
    if error.code in (404, 422) and field:
        return Refused(error.code, text, field)
    return (Unreachable if error.code >= 500 or error.code == 429 else LedgerError)(f"{url}: {text}")
