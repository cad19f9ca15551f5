"""The awaiting HTTP sender: one POST over asyncio streams, without blocking the loop.

Owns the exchange; address, headers and the meaning of the answer are shared with the blocking sender.
Never swallows a cancellation (so no `asyncio.wait_for`, which did until 3.12) and never outlives its deadline.
"""

from __future__ import annotations

import asyncio
import http.client
import io
from typing import Any, Optional, Tuple

from aicostguard.clock import clock
from aicostguard.delivery import head
from aicostguard.delivery import reply as replies
from aicostguard.delivery import request as requests
from aicostguard.delivery.reply import Reply

_context: Optional[Any] = None


class Awaited:
    """Posts envelopes to one ledger; an instance is called with `(body, deadline in monotonic seconds)`."""

    def __init__(self, url: str, key: Optional[str], agent: str) -> None:
        self._address = requests.target(url)
        self._key = key
        self._agent = agent

    @property
    def direct(self) -> bool:
        """False when a proxy stands between: asyncio starts TLS on an open stream from 3.11 on only."""
        return self._address.proxy is None

    async def __call__(self, body: bytes, deadline: float) -> Reply:
        try:
            head, body = requests.encode(self._address, self._key, body, self._agent)
        except ValueError:
            return Reply(replies.DENIED, detail="the key cannot be sent in a header")
        head = head.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
        work = asyncio.ensure_future(self._exchange(head + body))
        try:
            await asyncio.wait({work}, timeout=max(0.0, deadline - clock.monotonic()))
        except BaseException:
            _cancel(work)  # the caller's cancellation goes on, our connection does not
            raise
        if work.done() and not work.cancelled():
            return work.result()
        _cancel(work)
        return Reply(replies.LOST, detail="Late")

    async def _exchange(self, data: bytes) -> Reply:
        writer: Optional[asyncio.StreamWriter] = None
        try:
            reader, writer = await asyncio.open_connection(
                self._address.host, self._address.port, ssl=_tls() if self._address.tls else None
            )
            writer.write(data)
            await writer.drain()
            raw = await _read_head(reader)
            answer = head.read(io.BytesIO(raw), "POST")
            body = await _read_body(reader, answer)
            return replies.judge(answer.status, answer.getheader("Retry-After"), body)
        except (OSError, http.client.HTTPException, ValueError, EOFError, asyncio.LimitOverrunError) as error:
            return Reply(replies.LOST, detail=type(error).__name__)
        finally:
            if writer is not None:
                # Not `close`: the parting words of TLS would outlive the user's loop.
                writer.transport.abort()


def _cancel(work: asyncio.Future[Reply]) -> None:
    try:
        work.cancel()
    except RuntimeError:
        pass  # the loop is closed, and the connection with it


async def _read_head(reader: asyncio.StreamReader) -> bytes:
    """The head of the final answer; interim ones (100, 103) are passed over."""
    while True:
        raw = await reader.readuntil(b"\r\n\r\n")
        if raw[9:10] != b"1":
            return raw


async def _read_body(reader: asyncio.StreamReader, answer: http.client.HTTPResponse) -> bytes:
    """As much of the body as arrives: a status is an answer even when its body is cut."""
    try:
        if answer.length is not None:
            return await reader.readexactly(min(answer.length, replies.MAX_REPLY))
        raw = await reader.read(replies.MAX_REPLY)
        return _unchunk(raw) if answer.chunked else raw
    except (OSError, EOFError):
        return b""


def _unchunk(raw: bytes) -> bytes:
    """The chunks of a short body, joined. Raises nothing: what is malformed is left out."""
    body, rest = b"", raw
    while True:
        size, rest = _size(rest)
        if not size:
            return body
        body, rest = body + rest[:size], rest[size + 2 :]


def _size(raw: bytes) -> Tuple[int, bytes]:
    line, _, rest = raw.partition(b"\r\n")
    try:
        return int(line.split(b";")[0], 16), rest
    except ValueError:
        return 0, b""


def _tls() -> Any:
    global _context
    if _context is None:
        from aicostguard.delivery import trust

        _context = trust.context()
    return _context
