"""The head of an answer, read by `http.client` from a stream that is there already.

Owns how that class is made to read from something that is no socket, and that one which is half made (memory ended, or
a fault of ours) says nothing on the host's stderr when it goes.
"""

from __future__ import annotations

import http.client
from typing import Any


class _Answer(http.client.HTTPResponse):
    #: what closing looks at, and `__init__` sets only after a call that may fail
    fp: Any = None

    def flush(self) -> None:
        """Nothing: nothing is written to it, and its stream may be gone before it."""


class _Given:
    """What is asked for a stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def makefile(self, mode: str) -> Any:
        return self._stream


def read(stream: Any, method: str) -> http.client.HTTPResponse:
    """The answer to a request with this method, as far as its head. Raises what `http.client` raises."""
    answer = _Answer(_Given(stream), method=method)  # type: ignore[arg-type]  # makefile is all it uses
    answer.begin()
    return answer
