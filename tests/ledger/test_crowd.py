"""Everybody at once: bounded queues, honest refusals, and in the end every receipt once."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import time
from pathlib import Path
from typing import Any, AsyncIterator

import pytest

from aicostguard.ledger import gate
from aicostguard.ledger.errors import Crowded, Refused
from aicostguard.ledger.gate import Gate
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import KEY, Server, envelope, receipt, served, serving, totals


async def _post(port: int, key: str, body: bytes) -> tuple[int, dict[str, str], Any]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        head = f"POST /v1/receipts HTTP/1.1\r\nHost: ::1\r\nAuthorization: Bearer {key}\r\nContent-Encoding: gzip\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
        await writer.drain()
        lines, _, content = (await reader.read()).partition(b"\r\n\r\n")
    finally:
        writer.close()
    status, *headers = lines.decode().split("\r\n")
    return int(status.split()[1]), dict(line.lower().split(": ", 1) for line in headers), json.loads(content)


async def _outage_ends(port: int, key: str, clients: int, size: int, seconds: float) -> dict[str, Any]:
    """`clients` agents with one envelope each come back at the same moment, and obey what they are told."""
    found: dict[str, Any] = {"accepted": 0, "turned_away": 0, "pauses": [], "waits": []}
    deadline = time.monotonic() + seconds

    async def agent(number: int) -> None:
        # Each gives up on an answer as real ones do, and sends the same again.
        body = gzip.compress(json.dumps(envelope([receipt()] * size, name="01CROWD%019d" % number)).encode())
        while time.monotonic() < deadline:
            began = time.monotonic()
            try:
                async with asyncio.timeout(10):
                    status, headers, answer = await _post(port, key, body)
            except (OSError, TimeoutError):
                found["lost"] = found.get("lost", 0) + 1
                await asyncio.sleep(1)
                continue
            found["waits"].append(time.monotonic() - began)
            if status == 200:
                found["accepted"] += answer["accepted"] + answer["duplicate"]
                return
            assert status == 503, (status, answer)
            found["turned_away"] += 1
            found["pauses"].append(int(headers["retry-after"]))
            await asyncio.sleep(found["pauses"][-1])
        raise AssertionError("never let in")

    await asyncio.gather(*(agent(number) for number in range(clients)))
    return found


def _memory(pid: int) -> int:
    """Resident memory at its highest, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmHWM")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux, to see the memory of the server")
def test_two_hundred_agents_after_an_outage(tmp_path: Path) -> None:
    with served(tmp_path) as (process, server):
        key = (tmp_path / "ledger.key").read_text().strip()
        before = _memory(process.pid)
        found = asyncio.run(_outage_ends(server.port, key, clients=200, size=50, seconds=90))
        assert found["accepted"] == 200 * 50
        assert server.get("/v1/costs?since=24h", key=key).body["totals"]["calls"] == 200 * 50
        assert len(server.get("/v1/sources?limit=1000", key=key).body["sources"]) == 200
        assert _memory(process.pid) - before < 150 << 20
        assert process.poll() is None


def test_whoever_would_wait_too_long_is_told_when_to_come_again(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate, "MOST_WAIT_S", 0.02)
    real = store.add

    def slow(batch: Any) -> Any:
        time.sleep(0.03)
        return real(batch)

    monkeypatch.setattr(store, "add", slow)
    with serving(store) as server:
        assert server.post(envelope([receipt()] * 5, name="01FIRST0")).status == 200
        found = asyncio.run(_outage_ends(server.port, KEY, clients=20, size=5, seconds=60))
        assert server.get("/v1/health").status == 200
    assert found["turned_away"] > 0
    assert min(found["pauses"]) >= 1
    assert max(found["pauses"]) <= gate.MOST_PAUSE_S
    assert len(set(found["pauses"])) > 1, "not all at the same second"
    assert totals(store)["calls"] == 21 * 5


def test_bodies_that_are_held_are_bounded(server: Server, store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "MOST_BYTES", 20_000)
    small, large = envelope([receipt()]), envelope([receipt()] * 500, name="01LARGE0")
    reply = server.post(large)
    assert reply.status == 503
    assert int(reply.headers["retry-after"]) > 0
    assert server.post(small).status == 200, "what was let go is free again"
    monkeypatch.setattr(gate, "MOST_BYTES", 10**6)
    assert server.post(large).body["accepted"] == 500


def test_a_body_that_dawdles_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "BODY_S", 0.1)

    async def dawdling() -> AsyncIterator[bytes]:
        yield b"{"
        await asyncio.sleep(30)

    async def read() -> list[bytes]:
        with Gate().visit() as visit:
            return [part async for part in visit.parts(dawdling())]

    with pytest.raises(Refused, match="did not arrive") as caught:
        asyncio.run(read())
    assert caught.value.status == 408, "an agent keeps what was answered so"


def test_the_pause_follows_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    async def turned_away(waiting: int) -> list[int]:
        door = Gate()
        door._waiting, door._each = waiting, 0.1
        pauses = []
        for _ in range(200):
            with pytest.raises(Crowded) as caught, door.visit():
                pass
            assert caught.value.retry_after is not None
            pauses.append(caught.value.retry_after)
        return pauses

    random.seed(1)
    short, long = asyncio.run(turned_away(30)), asyncio.run(turned_away(10_000))
    assert max(short) <= 8
    assert max(long) == gate.MOST_PAUSE_S
    assert min(short + long) >= 1
    assert len(set(long)) > 20
