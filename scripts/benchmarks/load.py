"""A ledger in the middle of its day: 200 clients at once for as long as is asked, and what becomes of its memory.

190 agents with a connection of their own send small envelopes every two seconds or so, ten people have a page open that
asks once a second. In the end every receipt that was acknowledged is stored, once. The clients are coroutines of one
process: two cores have to serve both sides.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Awaitable, Dict, List, Tuple

from benchmarks.common import row
from benchmarks.ingest import receipt, server, stored

AGENTS, PAGES = 190, 10
#: mean seconds between two requests of a client
AGENT_EVERY, PAGE_EVERY = 2.0, 1.0
QUESTIONS = (
    "/v1/costs?since=today",
    "/v1/costs?since=30d&group_by=day",
    "/v1/costs?since=30d&group_by=model",
    "/v1/costs?since=30d&group_by=feature&limit=20",
    "/v1/receipts?since=1h&limit=50",
)
#: seconds between two looks at the server's memory
LOOK_EVERY = 5.0


class Connection:
    """One keep-alive connection that speaks as little HTTP as the ledger needs."""

    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._head = "Host: 127.0.0.1\r\nAuthorization: Bearer %s\r\n" % key
        self._streams: Tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, first: str, body: bytes = b"") -> Tuple[int, bytes]:
        """`(status, body)` of the answer. A kept connection may have been closed meanwhile: once more on another."""
        if self._streams is not None:
            try:
                return await self._exchange(*self._streams, first, body)
            except (asyncio.IncompleteReadError, ConnectionError):
                self.close()
        self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        return await self._exchange(*self._streams, first, body)

    async def _exchange(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: str, body: bytes
    ) -> Tuple[int, bytes]:
        more = "Content-Encoding: gzip\r\nContent-Length: %d\r\n" % len(body) if body else ""
        writer.write(("%s HTTP/1.1\r\n%s%s\r\n" % (first, self._head, more)).encode() + body)
        head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
        answer = await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
        if "connection: close" in head:
            self.close()
        return int(head.split()[1]), answer

    def close(self) -> None:
        """Let go; the next question opens another."""
        if self._streams is not None:
            self._streams[1].close()
        self._streams = None


class Seen:
    """What all clients saw."""

    def __init__(self) -> None:
        self.acknowledged = 0
        self.took: Dict[str, List[float]] = {"an envelope": [], "a question": []}
        self.wrong: List[str] = []
        self.waited = 0


async def _agent(port: int, key: str, number: int, seen: Seen, until: float) -> None:
    rng, connection = random.Random(number), Connection(port, key)
    epoch, sent = "01LOAD%020d" % number, 0
    while time.monotonic() < until:
        await asyncio.sleep(rng.expovariate(1 / AGENT_EVERY))
        many = rng.randrange(1, 40)
        now_ms = int(time.time() * 1000)
        envelope = {
            "schema": 1,
            "agent": "0.1.0",
            "epoch": epoch,
            "sent_at": now_ms,
            "seq": list(range(sent, sent + many)),
            "at": [now_ms] * many,
            "receipts": [receipt(rng) for _ in range(many)],
        }
        sent += many
        body = gzip.compress(json.dumps(envelope).encode(), 1)
        while True:
            status, answer = await _timed(seen, "an envelope", connection.ask("POST /v1/receipts", body))
            if status != 503:
                break
            seen.waited += 1  # it was asked to come again: no error, and the same envelope once more
            await asyncio.sleep(1)
        if status == 200:
            seen.acknowledged += json.loads(answer)["accepted"]
        else:
            seen.wrong.append("POST: %d %s" % (status, answer[:100].decode()))
    connection.close()


async def _page(port: int, key: str, number: int, seen: Seen, until: float) -> None:
    rng, connection = random.Random(-number), Connection(port, key)
    while time.monotonic() < until:
        await asyncio.sleep(rng.expovariate(1 / PAGE_EVERY))
        question = rng.choice(QUESTIONS)
        status, answer = await _timed(seen, "a question", connection.ask("GET " + question))
        if status != 200:
            seen.wrong.append("GET %s: %d %s" % (question, status, answer[:100].decode()))
    connection.close()


async def _timed(seen: Seen, kind: str, asked: Awaitable[Tuple[int, bytes]]) -> Tuple[int, bytes]:
    began = time.monotonic()
    answer = await asked
    seen.took[kind].append((time.monotonic() - began) * 1000)
    return answer


def _megabytes(pid: int) -> Tuple[float, float]:
    """Memory that the process holds, and pages of the ledger's file that are mapped into it and can be let go."""
    status = Path("/proc/%d/status" % pid).read_text()
    own, mapped = (int(status.split(name)[1].split()[0]) / 1024 for name in ("RssAnon:", "RssFile:"))
    return own, mapped


async def _watch(pid: int, held: List[Tuple[float, float]], until: float) -> None:
    while time.monotonic() < until:
        await asyncio.sleep(LOOK_EVERY)
        held.append(_megabytes(pid))


async def _all(port: int, key: str, pid: int, seconds: float, seen: Seen, held: List[Tuple[float, float]]) -> None:
    until = time.monotonic() + seconds
    agents = [_agent(port, key, number, seen, until) for number in range(AGENTS)]
    pages = [_page(port, key, number, seen, until) for number in range(PAGES)]
    await asyncio.gather(*agents, *pages, _watch(pid, held, until))


def load(seconds: float, folder: str | None = None) -> List[Dict[str, Any]]:
    """Figures of `seconds` (600 for the claim). Ends the program when a receipt or an answer is wrong."""
    print("\nLoad: %d clients for %.0f s" % (AGENTS + PAGES, seconds))
    seen, held = Seen(), []  # type: Tuple[Seen, List[Tuple[float, float]]]
    with tempfile.TemporaryDirectory(prefix="aicg-load-", dir=folder) as place:
        path = os.path.join(place, "ledger.db")
        with server(path) as (port, key, pid):
            asyncio.run(_all(port, key, pid, seconds, seen, held))
        raw, summed = stored(path)
    if not raw == summed == seen.acknowledged:
        sys.exit("wrong: %d acknowledged, %d stored, %d in the sums" % (seen.acknowledged, raw, summed))
    if seen.wrong:
        sys.exit("%d answers were errors: %s" % (len(seen.wrong), seen.wrong[:3]))
    # The first fifth fills caches and connections; what grows for ever grows after it.
    early, late = held[len(held) // 5 : 2 * len(held) // 5] or held, held[-len(held) // 5 :]
    rows = [
        row("receipts acknowledged, stored, and in the sums", [raw], ""),
        row("asked to come again", [seen.waited], ""),
        row("memory, second fifth of the time", [own for own, _ in early], "MB"),
        row("memory, last fifth", [own for own, _ in late], "MB", "aim: the same"),
        row("pages of the file mapped beside it, last fifth", [mapped for _, mapped in late], "MB", "256 at most"),
    ]
    for kind, took in seen.took.items():
        took.sort()
        rows += [
            row("%s: p%d" % (kind, part * 100), [took[int(len(took) * part)]], "ms", "of %d" % len(took))
            for part in (0.5, 0.95, 0.99)
        ]
    return rows
