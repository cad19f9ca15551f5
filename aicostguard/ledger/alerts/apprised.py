"""Messages to Slack, email, PagerDuty, Teams, Discord and the rest, through `apprise` in a process of its own.

Owns what that process is told and what its answer means.
"""

from __future__ import annotations

import base64
import json
import os
from typing import Any, Mapping, NamedTuple

from aicostguard.ledger import apart
from aicostguard.ledger.alerts.webhook import Outcome
from aicostguard.ledger.apart import Cuts

DEADLINE_S = 30.0
#: seconds in which a service must answer each step
_STEP_S = 8
_CHILD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "child.py")
#: of the ledger's environment: whom to trust
_KEPT = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")


class Checked(NamedTuple):
    """What apprise says of an address: the service's name, or what is wrong with it. `bad`: the address is at fault."""

    service: str
    error: str
    bad: bool


def check(url: str) -> Checked:
    """Whether apprise knows such an address. Connects to nothing."""
    found = _run({"url": url, "check": True, "allowed": ""}, set())
    return Checked(str(found.get("service", "")), str(found.get("error", "")), bool(found.get("bad")))


def send(
    url: str, key: str, title: str, body: str, kind: str, allowed: str, cuts: Cuts, picture: bytes = b""
) -> Outcome:
    """Send it once. `kind` is apprise's: info, warning, failure, success. Never raises.

    The picture, a PNG, is attached where the service takes files.
    """
    order = {"url": url, "check": False, "allowed": allowed, "title": title, "body": body, "type": kind}
    order["picture"] = base64.b64encode(picture).decode("ascii")
    found = _run({**order, "key": key, "timeout": _STEP_S}, cuts)
    if found.get("ok"):
        return Outcome(True, f"taken by {found.get('service', 'the service')}")
    again = not (found.get("bad") or found.get("refused"))
    return Outcome(False, str(found.get("error") or "it ended without a word"), again)


def _run(order: Mapping[str, Any], cuts: Cuts) -> dict[str, Any]:
    try:
        found = json.loads(apart.run(_CHILD, json.dumps(order).encode(), DEADLINE_S, cuts, _KEPT).said)
    except apart.Late:
        return {"error": f"no end within {DEADLINE_S:g} s"}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
