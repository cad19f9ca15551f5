"""OpenAI's runs of assistants: created, streamed, polled.

Owns when a run is billable: its usage is null until it is over. Creating a run, or handing in the output of tools,
leaves it pending unless it is streamed to its end; the first poll that finds it over bills it. Steps repeat parts of
the run's usage and are never read. Definition: https://developers.openai.com/api/reference/resources/beta/subresources/threads
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional

from aicostguard.metering.formats import Facts, Fold, Format, over
from aicostguard.metering.openai import usage_of
from aicostguard.metering.values import mapping, parse, text
from aicostguard.usage import Reading

_UNFINISHED = ("queued", "in_progress", "requires_action", "cancelling")
_OVER = ("failed", "cancelled", "expired")


def read_run(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A run, whole. One that is over without usage (expired, failed before a token) bills nothing."""
    usage, mismatch = usage_of(body.get("usage"), facts)
    unfinished = body.get("status") in _UNFINISHED
    if usage is None and not unfinished:
        return over(body.get("id"), facts) if body.get("status") in _OVER else []
    return [
        Reading(
            text(body.get("model")), usage, mismatch=mismatch, response_id=text(body.get("id")), pending=usage is None
        )
    ]


class RunFold(Fold):
    """The events of a run. Every event about the run itself carries it whole; the last one is the run's state."""

    __slots__ = ("_last",)

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._last: Optional[bytes] = None

    def event(self, data: bytes) -> bool:
        if b'"thread.run"' in data:
            self._last = data
        return False

    def readings(self) -> List[Reading]:
        run = mapping(parse(self._last or b""))
        # The run goes on when its stream is left; a poll will tell what it cost.
        return read_run(run, self.facts) if run.get("object") == "thread.run" else []


_DOCS = "https://developers.openai.com/api/reference/resources/beta/subresources/threads"

RUN = Format(
    "run", None, "usage", ("status", "model", "id"), (), read_run, (b'"thread.run"',), b"[DONE]", RunFold, 0, _DOCS
)
RUN_GET = RUN._replace(name="run_get")

FORMATS = (RUN, RUN_GET)
