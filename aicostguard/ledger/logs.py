"""What the ledger's process says on stderr: sentences for people, or a JSON object a line for machines.

Owns the form of the log. Never holds a query string, a header or a body: they carry labels and keys.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Any, TextIO

#: `--log-format`
FORMATS = ("text", "json")
#: `--log-level`
LEVELS = ("debug", "info", "warning", "error")

#: what every record has; whatever else stands on one was given as `extra`
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "color_message", "taskName"}


class Lines(logging.Formatter):
    """One JSON object a line: `time` (RFC 3339, UTC), `level`, `logger`, `message`, what was given as `extra`, and
    `exception` where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{at}.{int(record.created % 1 * 1000):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update((name, value) for name, value in vars(record).items() if name not in _USUAL)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


class Sentences(logging.Formatter):
    """`WARNING aicostguard.ledger: …`, with what was given as `extra` behind it."""

    def __init__(self) -> None:
        super().__init__("%(levelname)s %(name)s: %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        more = "".join(f" {name}={value}" for name, value in vars(record).items() if name not in _USUAL)
        first, newline, rest = super().format(record).partition("\n")
        return first + more + newline + rest


def configure(form: str = "text", level: str = "warning", out: TextIO | None = None) -> None:
    """Send every logger of this process to stderr (or `out`) in one form. uvicorn's own set-up is not used."""
    handler = logging.StreamHandler(sys.stderr if out is None else out)
    handler.setFormatter(Lines() if form == "json" else Sentences())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    # Other libraries' chatter is theirs to debug; what is asked for is the ledger's.
    root.setLevel(logging.WARNING)
    logging.getLogger("aicostguard").setLevel(level.upper())
