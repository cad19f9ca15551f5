"""How fast a ledger takes receipts: `aicg serve` on SQLite, clients in processes of their own, over HTTP.

Batches of 500 as agents send them: one envelope, gzip, one connection, the next when the last was answered. The bodies
are made before the clock starts: what is measured is the ledger. `prefill` makes a file of millions of receipts by way
of one day that was really ingested and 29 copies of it, sums included.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import random
import re
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

from benchmarks.common import ROOT, row

BATCH = 500
DAYS = 30
DAY_MS = 86_400_000
#: bytes a receipt takes in the file, with its indexes and sums
PER_RECEIPT = 300
AIMS = {"rate": 30_000, "p99": 60.0, "worst": 250.0}

_MODELS = tuple(
    (provider, name)
    for provider, names in (
        ("openai", "gpt-4o gpt-4o-mini gpt-4.1 gpt-4.1-mini gpt-4.1-nano o3 o3-mini o4-mini"),
        ("openai", "gpt-5 gpt-5-mini gpt-5-nano"),
        ("anthropic", "claude-sonnet-4-5 claude-opus-4-1 claude-haiku-4-5 claude-sonnet-4-0 claude-opus-4-5"),
        ("google", "gemini-2.5-pro gemini-2.5-flash gemini-2.5-flash-lite gemini-2.0-flash"),
        ("mistral", "mistral-large-latest mistral-small-latest codestral-latest ministral-8b-latest"),
        ("anthropic", "claude-3-5-haiku-latest claude-3-7-sonnet-latest"),
        ("deepseek", "deepseek-chat deepseek-reasoner"),
        ("x-ai", "grok-3 grok-4"),
    )
    for name in names.split()
)


def receipt(rng: random.Random) -> Dict[str, Any]:
    """What plain and labelled calls of a company look like: 30 models, 200 features, 50,000 users."""
    provider, model = rng.choice(_MODELS)
    out: Dict[str, Any] = {
        "provider": provider,
        "model": model,
        "input_tokens": rng.randrange(1, 8000),
        "output_tokens": rng.randrange(1, 1500),
        "latency_ms": rng.randrange(200, 9000),
        "feature": "feature_%d" % min(199, int(rng.expovariate(1 / 30))),
    }
    if rng.random() < 0.3:
        out["cache_read_input_tokens"] = rng.randrange(1, out["input_tokens"] + 1)
    if rng.random() < 0.3:
        out.update(streamed=True, ttft_ms=rng.randrange(100, 900))
    if rng.random() < 0.6:
        out["user"] = "u-%d" % rng.randrange(50_000)
    if rng.random() < 0.3:
        out["team"] = "team-%d" % rng.randrange(8)
    return out


def envelope(
    rng: random.Random,
    epoch: str,
    first: int,
    now_ms: int,
    spread_ms: int = 2000,
    receipts: Optional[Sequence[Dict[str, Any]]] = None,
) -> Dict[str, Any]:
    """An envelope of 500 receipts of the last `spread_ms`: these, or new ones."""
    return {
        "schema": 1,
        "agent": "0.1.0",
        "epoch": epoch,
        "sent_at": now_ms,
        "service": "bench",
        "environment": "production",
        "host": "bench-%s" % epoch[-1],
        "counters": {"generated": first + BATCH, "sent": first},
        "seq": list(range(first, first + BATCH)),
        "at": sorted(now_ms - rng.randrange(spread_ms) for _ in range(BATCH)),
        "receipts": [receipt(rng) for _ in range(BATCH)] if receipts is None else list(receipts),
    }


def prefill(path: str, rows: int) -> None:
    """Make a ledger of `rows` receipts over 30 days: one day is ingested, and copied under other epochs and dates."""
    from aicostguard import ledger
    from aicostguard.ledger import ingest
    from aicostguard.ledger.sqlite import schema
    from aicostguard.ledger.sqlite.write import quoted

    store = ledger.open_ledger(path)
    project = store.default_project()
    rng, now_ms = random.Random(30), ledger.now_ms()
    start = now_ms - now_ms % DAY_MS - (DAYS - 1) * DAY_MS  # the last is today, as full as the others
    per_day = max(1, rows // DAYS // BATCH)
    for number in range(per_day):
        epoch = "01BENCH00%016d" % (number % 50)
        # The whole batch happened at one time of that day: an hour holds few batches then, as with real agents.
        at_ms = start + DAY_MS * number // per_day + 2000
        body = envelope(rng, epoch, number // 50 * BATCH, at_ms)
        store.add(ingest.prepare(project, body, at_ms))
    store.fold()
    store.close()
    index = next(text for text in schema.MIGRATIONS[0] if "receipts_by_time" in text)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = OFF")
        connection.execute("PRAGMA synchronous = OFF")
        connection.execute("PRAGMA cache_size = -400000")
        connection.execute("DROP INDEX receipts_by_time")
        connection.execute("BEGIN")
        for day in range(1, DAYS):
            moved = {"epoch": f"substr(epoch, 1, 7) || '{day:02d}' || substr(epoch, 10)"}
            moved.update({name: f"{name} + {day * DAY_MS}" for name in ("at_ms", "received_ms", "start_ms")})
            for table, only in (
                ("receipts", "epoch LIKE '01BENCH00%'"),
                *((name, _first(start)) for name in ("hourly", "daily", "hourly_spreads", "daily_spreads")),
            ):
                names = [item[1] for item in connection.execute(f"PRAGMA table_info({table})")]
                values = [moved.get(name, '"%s"' % name) for name in names]
                connection.execute(
                    f"INSERT INTO {table} ({quoted(names)}) SELECT {', '.join(values)} FROM {table} WHERE {only}"
                )
        connection.execute("COMMIT")
        connection.execute(index)


def _first(start: int) -> str:
    return f"start_ms >= {start} AND start_ms < {start + DAY_MS}"


_CLIENT = """
import json, sys
from benchmarks import ingest
ingest.client(*json.loads(sys.argv[1]))
"""


def client(port: int, key: str, number: int, batches: int, seconds: float) -> None:
    """One sending process: makes its bodies, says so, waits for the word, sends, prints what it saw."""
    rng, epoch = random.Random(number), "01BENCHCLIENT%011d%d" % (time.time_ns() // 1000 % 10**11, number)
    now_ms = int(time.time() * 1000)
    # Receipts are drawn from many: to make each anew would take longer than to send it.
    many = [json.dumps(receipt(rng), separators=(",", ":")) for _ in range(20_000)]
    bodies = []
    for turn in range(batches):
        body = json.dumps(envelope(rng, epoch, turn * BATCH, now_ms, receipts=()), separators=(",", ":"))
        filled = body.replace('"receipts":[]', '"receipts":[%s]' % ",".join(rng.sample(many, BATCH)))
        bodies.append(gzip.compress(filled.encode(), 6))
    headers = {"Authorization": "Bearer " + key, "Content-Encoding": "gzip", "Content-Type": "application/json"}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    print("ready", flush=True)
    sys.stdin.readline()
    began, cpu = time.monotonic(), time.process_time()
    took: List[float] = []
    accepted = refused = 0
    for body in bodies:
        start = time.monotonic()
        while True:
            connection.request("POST", "/v1/receipts", body, headers)
            reply = connection.getresponse()
            answer = reply.read()
            if reply.status == 200:
                break
            refused += 1
            time.sleep(min(1.0, float(reply.headers.get("Retry-After", 1))))
        accepted += json.loads(answer)["accepted"]
        took.append((time.monotonic() - start) * 1000)
        if time.monotonic() - began > seconds:
            break
    said = {"began": began, "ended": time.monotonic(), "cpu": time.process_time() - cpu}
    print(json.dumps({**said, "took": took, "accepted": accepted, "busy": refused}))


@contextlib.contextmanager
def server(path: str) -> Iterator[Tuple[int, str, int]]:
    """`aicg serve` over `path`: its port, its key, its process."""
    process = subprocess.Popen(
        [sys.executable, "-m", "aicostguard.cli", "serve", "--port", "0", "--db", path],
        stdout=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONPATH=str(ROOT)),
        cwd=ROOT,
    )
    try:
        assert process.stdout is not None
        told = re.search(r"http://[^:]+:(\d+)", process.stdout.readline())
        if told is None:
            sys.exit("aicg serve --db %s did not start; the lines above say why" % path)
        yield int(told[1]), Path(os.path.dirname(path), "ledger.key").read_text().strip(), process.pid
    finally:
        process.terminate()
        try:
            process.wait(60)
        finally:
            process.kill()  # nothing, if it has ended
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def rounds(path: str, clients: int, seconds: float) -> Dict[str, Any]:
    """Send with `clients` processes for `seconds`; receipts/s and the time of each batch in ms, first to last."""
    with server(path) as (port, key, pid):
        batches = int(seconds * 45_000 / BATCH / clients) + 20
        environ = dict(os.environ, PYTHONPATH=os.pathsep.join((str(ROOT), str(ROOT / "scripts"))))
        started = [
            subprocess.Popen(
                [sys.executable, "-c", _CLIENT, json.dumps([port, key, number, batches, seconds])],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=environ,
            )
            for number in range(clients)
        ]
        for one in started:
            assert one.stdout is not None and one.stdout.readline() == "ready\n"
        cpu = _cpu_s(pid)
        for one in started:
            assert one.stdin is not None
            one.stdin.write("go\n")
            one.stdin.flush()
        said = [json.loads(one.communicate(timeout=seconds + 120)[0]) for one in started]
        cpu = _cpu_s(pid) - cpu
    length = max(item["ended"] for item in said) - min(item["began"] for item in said)
    took = sorted(value for item in said for value in item["took"])
    accepted = sum(item["accepted"] for item in said)
    busy = sum(item["busy"] for item in said)
    theirs = sum(item["cpu"] for item in said)
    per = {"cpu": cpu / accepted * 1e6, "theirs": theirs / accepted * 1e6}
    return {"rate": accepted / length, "took": took, "accepted": accepted, "busy": busy, **per}


def _cpu_s(pid: int) -> float:
    """Processor time of a process so far; 0 where there is no /proc."""
    try:
        fields = Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


def stored(path: str) -> Tuple[int, int]:
    """Receipts, and calls of the daily sums: the two agree, or the figures are worth nothing."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        raw = connection.execute("SELECT count(*) FROM receipts").fetchone()[0]
        summed = connection.execute("SELECT sum(calls) FROM daily WHERE dimension = 'provider'").fetchone()[0]
    return int(raw), int(summed or 0)


def ingest(
    rows: int, seconds: float, runs: int, folder: str | None = None, db: str | None = None
) -> List[Dict[str, Any]]:
    """Figures for one and four clients, on a fresh file and on one of `rows` receipts; or on `db`, which grows."""
    out: List[Dict[str, Any]] = []
    if db is not None:
        return _sizes(db, stored(db)[0], seconds, runs)
    place = tempfile.mkdtemp(prefix="aicg-bench-", dir=folder)
    try:
        sizes = [0, rows] if rows else [0]
        if shutil.disk_usage(place).free < 3 * PER_RECEIPT * rows:
            sizes = [0]
            print("not enough room in %s for %d receipts: a fresh file only" % (place, rows))
        for size in sizes:
            path = os.path.join(place, "ledger-%d" % size, "ledger.db")
            os.makedirs(os.path.dirname(path), mode=0o700)
            if size:
                began = time.monotonic()
                prefill(path, size)
                print("\n%d receipts made in %.0f s" % (size, time.monotonic() - began))
            out += _sizes(path, size, seconds, runs)
            shutil.rmtree(os.path.dirname(path))
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return out


def _sizes(path: str, size: int, seconds: float, runs: int) -> List[Dict[str, Any]]:
    found = "%d receipts in it, %.0f MB" % (size, os.path.getsize(path) / 1e6) if size else "fresh"
    print("\nIngest, a file: %s; load %.1f on %d processors" % (found, os.getloadavg()[0], os.cpu_count() or 1))
    figures = [
        _figures(path, clients, seconds, runs, "%s, %s" % (_count(size), _clients(clients))) for clients in (1, 4)
    ]
    return [*figures[0], *figures[1]]


def _figures(path: str, clients: int, seconds: float, runs: int, name: str) -> List[Dict[str, Any]]:
    found: List[Dict[str, Any]] = []
    for _ in range(runs):
        before = stored(path)[0] if os.path.exists(path) else 0
        found.append(rounds(path, clients, seconds))
        raw, summed = stored(path)
        if not raw == summed == before + found[-1]["accepted"]:
            sys.exit(
                "wrong: %d acknowledged, %d stored, %d in the sums" % (before + found[-1]["accepted"], raw, summed)
            )
    at = {
        "p50": [statistics.median(item["took"]) for item in found],
        "p99": [item["took"][int(len(item["took"]) * 0.99)] for item in found],
        "worst": [item["took"][-1] for item in found],
    }
    return [
        row("%s: receipts/s" % name, [item["rate"] for item in found], "/s", "aim: at least %d" % AIMS["rate"]),
        row("%s: processor time of the ledger, a receipt" % name, [item["cpu"] for item in found], "µs"),
        row("%s: processor time of the clients, a receipt" % name, [item["theirs"] for item in found], "µs"),
        row("%s: a batch, p50" % name, at["p50"], "ms"),
        row("%s: a batch, p99" % name, at["p99"], "ms", "aim: under %.0f" % AIMS["p99"]),
        row("%s: a batch, worst" % name, at["worst"], "ms", "aim: under %.0f" % AIMS["worst"]),
    ]


def _count(size: int) -> str:
    return "%.3g million" % (size / 1e6) if size else "fresh"


def _clients(number: int) -> str:
    return "1 client" if number == 1 else "%d clients" % number
