"""Messages to Slack, email, PagerDuty, Teams, Discord and the rest, through `apprise` in a process of its own.

Owns that process: what it is told (on stdin: an argument could be read by every user of the machine), how long it may
take, and how it is ended.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from typing import Any, Mapping, NamedTuple

from aicostguard.ledger.alerts.webhook import Cuts, Outcome

DEADLINE_S = 30.0
#: seconds in which a service must answer each step
_STEP_S = 8
_CHILD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "child.py")
#: of the ledger's environment nothing is handed on that could lead the messages elsewhere, or is a secret
_KEPT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "VIRTUAL_ENV")


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
    process = subprocess.Popen(
        [sys.executable, "-P", _CHILD],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={name: os.environ[name] for name in _KEPT if name in os.environ},
    )
    cuts.add(process.kill)
    try:
        said, _ = process.communicate(json.dumps(order).encode(), timeout=DEADLINE_S)
        found = json.loads(said)
        return found if isinstance(found, dict) else {}
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return {"error": f"no end within {DEADLINE_S:g} s"}
    except ValueError:
        return {}
    finally:
        cuts.discard(process.kill)
