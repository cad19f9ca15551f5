"""`python -m chaos_plan.proxy`: stands between agents and ledger and does them harm, by plan.

Owns every fault of the network that an HTTP client can meet: replies dropped after the commit, delays, duplicates now
and much later, envelopes out of order, refusals, resets, stalls, halves, damaged copies. What comes when is in the
plan's windows; which request a window hits is drawn from the seed. It never changes a request that it passes on: TLS
and TCP keep bytes intact in the field. A copy that it damages is one more, and damaged so that a reader can tell.

Prints its port; reads its windows from the file of `--plan`; writes what it did to that of `--out` when it is told to
end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gzip
import json
import random
import signal
import socket
import struct
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Awaitable, Callable, Dict, List, NamedTuple, Optional, Tuple

Head = List[bytes]
#: seconds for one exchange with the ledger, and until a late copy is sent
PATIENCE, LATE = 30.0, (2.0, 15.0)
#: bytes of a request at most
LARGEST = 32 << 20


class Window(NamedTuple):
    """From `begin` to `end` (seconds of the run), a share of the requests meets `kind`."""

    begin: float
    end: float
    kind: str
    share: float


class Cut(Exception):
    """The connection to the agent ends here; True: with a reset."""


class Proxy:
    """One listening socket, one ledger behind it."""

    def __init__(self, ledger: int, windows: List[Window], start: float, seed: int) -> None:
        self.ledger, self.windows, self.start = ledger, windows, start
        self.rng = random.Random(seed)
        self.did: Counter[str] = Counter()
        self.late: set[asyncio.Task[Any]] = set()
        self.heal = asyncio.Event()

    def kind(self) -> str:
        """What the next request meets."""
        now = time.monotonic() - self.start
        if self.heal.is_set():
            return "pass"
        for window in self.windows:
            if window.begin <= now < window.end:
                return window.kind if self.rng.random() < window.share else "pass"
        return "pass"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection of an agent."""
        try:
            while True:
                request = await read_message(reader)
                if request is None:
                    break
                kind = self.kind()
                self.did[kind] += 1
                answer = await KINDS[kind](self, request)
                writer.write(answer)
                await writer.drain()
        except Cut as cut:
            if cut.args:
                sock = writer.get_extra_info("socket")
                sock.setsockopt(*_LINGER)  # closing sends a reset
        except (OSError, ValueError, EOFError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            self.did["broken"] += 1
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def forward(self, request: bytes) -> bytes:
        """The ledger's answer; Cut when there is none."""
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.ledger, limit=LARGEST)
        except OSError:
            self.did["ledger away"] += 1
            raise Cut from None
        try:
            writer.write(request)
            await writer.drain()
            answer = await asyncio.wait_for(read_message(reader), PATIENCE)
        except (OSError, EOFError, asyncio.TimeoutError):
            answer = None
        finally:
            writer.close()
        if answer is None:
            self.did["ledger went away"] += 1
            raise Cut
        return answer

    def afterwards(self, seconds: float, request: bytes) -> None:
        """Send a copy to the ledger later, whatever comes back; what the run's end finds waiting goes out then."""

        async def send() -> None:
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self.heal.wait(), seconds)
            with contextlib.suppress(Cut):
                await self.forward(request)

        task = asyncio.ensure_future(send())
        self.late.add(task)
        task.add_done_callback(self.late.discard)


_LINGER = (socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def read_message(reader: asyncio.StreamReader) -> Optional[bytes]:
    """One HTTP message with a Content-Length, whole; None at the end of the connection."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    size = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            size = int(value)
    if size > LARGEST:
        raise ValueError("too large")
    return head + await reader.readexactly(size)


def plain(status: int, text: str, *headers: str) -> bytes:
    """An answer of our own."""
    lines = ["HTTP/1.1 %d Chaos" % status, "Content-Length: %d" % len(text), "Content-Type: text/plain", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + text).encode()


def parts(request: bytes) -> Tuple[bytes, bytes]:
    """`(head with its empty line, body)`."""
    head, _, body = request.partition(b"\r\n\r\n")
    return head + b"\r\n\r\n", body


def receipts(request: bytes) -> int:
    """How many receipts an envelope holds."""
    head, body = parts(request)
    if b"content-encoding: gzip" in head.lower():
        body = gzip.decompress(body)
    return len(json.loads(body)["receipts"])


# The kinds. Each gives the answer for the agent, or raises Cut.


async def pass_on(proxy: Proxy, request: bytes) -> bytes:
    return await proxy.forward(request)


async def drop_reply(proxy: Proxy, request: bytes) -> bytes:
    await proxy.forward(request)
    raise Cut


async def drop_reply_late(proxy: Proxy, request: bytes) -> bytes:
    await proxy.forward(request)
    await asyncio.sleep(proxy.rng.uniform(1, 6))
    raise Cut(True)


async def half_a_reply(proxy: Proxy, request: bytes) -> bytes:
    answer = await proxy.forward(request)
    head, body = parts(answer)
    if body:
        # The status line and some of the body: a 2xx is a 2xx.
        return answer[: len(head) + len(body) // 2].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1)
    raise Cut


async def delay(proxy: Proxy, request: bytes) -> bytes:
    await asyncio.sleep(proxy.rng.uniform(0.05, 3))
    return await proxy.forward(request)


async def twice(proxy: Proxy, request: bytes) -> bytes:
    first = await proxy.forward(request)
    second = await proxy.forward(request)
    return proxy.rng.choice((first, second))


async def at_once(proxy: Proxy, request: bytes) -> bytes:
    """Both copies on the wire at the same time."""
    answers = await asyncio.gather(*(proxy.forward(request) for _ in range(3)), return_exceptions=True)
    good = [answer for answer in answers if isinstance(answer, bytes)]
    if not good:
        raise Cut
    return proxy.rng.choice(good)


async def late_copy(proxy: Proxy, request: bytes) -> bytes:
    """Answered now; and once more when everything else has moved on."""
    answer = await proxy.forward(request)
    proxy.afterwards(proxy.rng.uniform(*LATE), request)
    return answer


async def reorder(proxy: Proxy, request: bytes) -> bytes:
    """The agent is told nothing, sends it again, and the first copy arrives after the second."""
    proxy.afterwards(proxy.rng.uniform(*LATE), request)
    raise Cut


async def refuse_503(proxy: Proxy, request: bytes) -> bytes:
    return plain(503, "later", "Retry-After: 1")


async def refuse_429(proxy: Proxy, request: bytes) -> bytes:
    return plain(429, "slower", "Retry-After: 2")


async def gateway(proxy: Proxy, request: bytes) -> bytes:
    return plain(proxy.rng.choice((500, 502, 504)), "<html>bad gateway</html>")


async def taken_but_502(proxy: Proxy, request: bytes) -> bytes:
    """The ledger has it, and a gateway says that it failed."""
    await proxy.forward(request)
    return plain(502, "<html>bad gateway</html>")


async def too_large(proxy: Proxy, request: bytes) -> bytes:
    if receipts(request) > 1:
        return plain(413, "too large")
    return await proxy.forward(request)


async def reset(proxy: Proxy, request: bytes) -> bytes:
    raise Cut(True)


async def stall(proxy: Proxy, request: bytes) -> bytes:
    """Takes it, says nothing for longer than an agent waits; the ledger gets it all the same, or not."""
    known = proxy.rng.random() < 0.5
    if known:
        await proxy.forward(request)
    with contextlib.suppress(asyncio.TimeoutError):
        await asyncio.wait_for(proxy.heal.wait(), 15)
    raise Cut


async def half_a_request(proxy: Proxy, request: bytes) -> bytes:
    """The ledger sees the beginning."""
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", proxy.ledger)
        writer.write(request[: proxy.rng.randrange(1, len(request))])
        await writer.drain()
        writer.close()
    except OSError:
        proxy.did["ledger away"] += 1
    raise Cut


async def damage(proxy: Proxy, request: bytes) -> bytes:
    """A damaged copy reaches the ledger, before the sound one or after it. The agent hears of the sound one."""
    copy = damaged(proxy.rng, request)
    if proxy.rng.random() < 0.5:
        await _harmless(proxy, copy)
        return await proxy.forward(request)
    answer = await proxy.forward(request)
    await _harmless(proxy, copy)
    return answer


async def _harmless(proxy: Proxy, copy: bytes) -> None:
    with contextlib.suppress(Cut):
        answer = await proxy.forward(copy)
        status = answer.split(b" ", 2)[1].decode()
        proxy.did["damaged copy: HTTP " + status] += 1


def damaged(rng: random.Random, request: bytes) -> bytes:
    """A copy whose body no reader can take for sound: cut short, a byte changed under a checksum, or no JSON."""
    head, body = parts(request)
    zipped = b"content-encoding: gzip" in head.lower()
    place = rng.randrange(len(body))
    way = rng.choice(("short", "byte") if zipped else ("short", "no json"))
    if way == "short":
        body = body[:place]
    elif way == "byte":
        # Past the header of gzip, where flags and a time stand that nothing checks; before the sizes at the end.
        place = rng.randrange(10, len(body))
        body = body[:place] + bytes((body[place] ^ (1 << rng.randrange(8)),)) + body[place + 1 :]
    else:
        body = b"\x00" + body[1:]
    lines = [line for line in head[:-4].split(b"\r\n") if not line.lower().startswith(b"content-length:")]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body)]) + b"\r\n\r\n" + body


Kind = Callable[[Proxy, bytes], Awaitable[bytes]]
KINDS: Dict[str, Kind] = {
    "pass": pass_on,
    "drop-reply": drop_reply,
    "drop-reply-late": drop_reply_late,
    "half-reply": half_a_reply,
    "delay": delay,
    "twice": twice,
    "at-once": at_once,
    "late-copy": late_copy,
    "reorder": reorder,
    "503": refuse_503,
    "429": refuse_429,
    "gateway": gateway,
    "taken-but-502": taken_but_502,
    "413": too_large,
    "reset": reset,
    "stall": stall,
    "half-request": half_a_request,
    "damage": damage,
}


async def main(options: argparse.Namespace) -> None:
    """Serve until SIGTERM; SIGUSR1 heals: from then on everything passes."""
    plan = json.loads(options.plan.read_text())
    proxy = Proxy(options.ledger, [Window(*row) for row in plan["windows"]], options.start, plan["seed"])
    done = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, done.set)
    loop.add_signal_handler(signal.SIGUSR1, proxy.heal.set)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", options.port, limit=LARGEST, backlog=512)
    sys.stdout.write("%d\n" % server.sockets[0].getsockname()[1])
    sys.stdout.flush()
    await done.wait()
    server.close()
    if proxy.late:
        await asyncio.wait(proxy.late, timeout=PATIENCE)
    options.out.write_text(json.dumps({"did": dict(proxy.did), "unsent": len(proxy.late)}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--ledger", type=int, required=True, help="the ledger's port")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--start", type=float, required=True, help="time.monotonic() at second 0 of the plan")
    asyncio.run(main(parser.parse_args()))
