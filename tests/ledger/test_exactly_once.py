"""However often, however cut, from however many at once: a receipt is stored once, and counted once."""

from __future__ import annotations

import http.client
import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from aicostguard import ledger
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.sqlite import SqliteStore
from tests.ledger.support import (
    EPOCH,
    KEY,
    NOW,
    Server,
    costs,
    envelope,
    environment,
    epoch,
    receipt,
    served,
    take,
    totals,
    wait_for,
)


@pytest.mark.ids("E7")
def test_an_envelope_sent_again_is_all_duplicates(store: SqliteStore) -> None:
    body = envelope([receipt(), receipt(model="gpt-4o-mini")])
    assert take(store, body) == {"accepted": 2, "duplicate": 0, "refused": []}
    assert take(store, body) == {"accepted": 0, "duplicate": 2, "refused": []}
    assert totals(store)["calls"] == 2


@pytest.mark.ids("E7")
def test_rebatching_in_any_way_counts_each_receipt_once(store: SqliteStore) -> None:
    receipts = [receipt(input_tokens=number) for number in range(200)]
    random.seed(7)
    for _ in range(30):
        first = random.randrange(200)
        last = random.randrange(first, 200) + 1
        take(store, envelope(receipts[first:last], first=first))
    take(store, envelope(receipts, first=0))
    assert totals(store)["calls"] == 200
    assert totals(store)["input_tokens"] == sum(range(200))


def test_the_same_seq_twice_in_one_envelope_is_one_receipt(store: SqliteStore) -> None:
    body = envelope([receipt(), receipt()], seq=[4, 4])
    assert take(store, body) == {"accepted": 1, "duplicate": 1, "refused": []}
    assert totals(store)["calls"] == 1


def test_the_same_seq_of_another_epoch_or_project_is_another_receipt(store: SqliteStore) -> None:
    earlier, later = epoch(), epoch()
    for name in (later, earlier):
        take(store, envelope([receipt()], name=name))
    assert totals(store)["calls"] == 2


@pytest.mark.ids("E7")
def test_a_reply_lost_after_the_commit_does_not_count_twice(server: Server, store: SqliteStore) -> None:
    body = json.dumps(envelope([receipt()])).encode()
    head = (
        f"POST /v1/receipts HTTP/1.1\r\nHost: ::1\r\nAuthorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(head.encode() + body)
        wait_for(lambda: totals(store)["calls"] == 1, "the commit")
    assert server.ask("POST", "/v1/receipts", body).body == {"accepted": 0, "duplicate": 1, "refused": []}
    assert totals(store)["calls"] == 1


def test_many_threads_sending_the_same_receipts_over_http(server: Server, store: SqliteStore) -> None:
    receipts = [receipt(input_tokens=number) for number in range(100)]
    accepted: list[int] = []

    def send(seed: int) -> None:
        order = random.Random(seed)
        for _ in range(8):
            first = order.randrange(0, 100, 20)
            reply = server.post(envelope(receipts[first : first + 40], first=first), zipped=bool(seed % 2))
            assert reply.status == 200
            accepted.append(reply.body["accepted"])

    threads = [threading.Thread(target=send, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.post(envelope(receipts, first=0))
    assert totals(store)["calls"] == 100
    assert sum(accepted) <= 100
    assert totals(store)["input_tokens"] == sum(range(100))


_PROCESS = """
import sys, time
from aicostguard import ledger
from tests.ledger.support import envelope, receipt, take
path, number = sys.argv[1], int(sys.argv[2])
store = ledger.open_ledger(path)
worst = 0.0
for turn in range(25):
    began = time.monotonic()
    # Each process sends its own and, every other turn, what all of them send.
    shared = [receipt(feature="shared")] * 10
    take(store, envelope(shared, first=turn * 10, name="01SHARED000000000000000000"))
    take(store, envelope([receipt(feature="own")] * 10, first=turn * 10, name="01OWN%021d" % number))
    worst = max(worst, time.monotonic() - began)
store.close()
print(worst)
"""


def test_four_processes_writing_one_file(tmp_path: Path) -> None:
    path = str(tmp_path / "ledger.db")
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", _PROCESS, path, str(number)], env=environment(), stdout=subprocess.PIPE, text=True
        )
        for number in range(4)
    ]
    began = time.monotonic()
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    took = time.monotonic() - began
    assert [process.returncode for process in processes] == [0] * 4
    store = ledger.open_ledger(path)
    by_feature = {row["feature"]: row["calls"] for row in costs(store, group_by="feature")["rows"]}
    store.close()
    assert by_feature == {"shared": 250, "own": 1000}
    # Nobody starves: of 50 writes each, no single one takes the time of a quarter of them all.
    assert max(float(text) for text in outputs) < max(2.0, took / 4)


@pytest.mark.ids("Z4")
def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    acknowledged = 0
    name = epoch()
    for turn in range(3):
        with served(tmp_path) as (process, server):
            key = wait_for(lambda: (tmp_path / "ledger.key").read_text().strip(), "the key")
            stop = threading.Timer(0.4, process.send_signal, (signal.SIGKILL,))
            stop.start()
            try:
                while True:
                    body = envelope([receipt()] * 5, first=acknowledged, name=name)
                    reply = server.post(body, key=key)
                    assert reply.status == 200, (turn, reply)
                    acknowledged += 5
            except (OSError, http.client.HTTPException):  # also in the middle of a reply
                pass
            finally:
                stop.cancel()
    store = ledger.open_ledger(str(tmp_path / "ledger.db"))
    stored = totals(store)["calls"]
    take(store, envelope([receipt()] * 5, first=acknowledged, name=name))
    # At most the one envelope under way was stored without its reply having come back.
    assert acknowledged > 0
    assert acknowledged <= stored <= acknowledged + 5
    assert totals(store)["calls"] == acknowledged + 5
    assert store._read(lambda connection: connection.execute("PRAGMA integrity_check").fetchone()[0]) == "ok"
    store.close()


@pytest.mark.ids("G12")
def test_one_bare_receipt_is_taken_once_by_its_idempotency_key(server: Server) -> None:
    for accepted in (1, 0, 0):
        reply = server.post(receipt(feature="from-go"), Idempotency_Key="order-17")
        assert (reply.status, reply.body["accepted"], reply.body["duplicate"]) == (200, accepted, 1 - accepted)
    other = server.post(receipt(feature="another"), Idempotency_Key="order-17")
    assert other.status == 422
    assert other.body["field"] == "Idempotency-Key"
    assert server.post(receipt(feature="from-go"), Idempotency_Key="order-18").body["accepted"] == 1
    assert server.get("/v1/costs?since=24h").body["totals"]["calls"] == 2


@pytest.mark.ids("G12")
def test_the_order_of_keys_does_not_make_another_body(store: SqliteStore) -> None:
    one = receipt(team="a")
    take(store, one, idempotency_key="k")
    again = dict(reversed(list(one.items())))
    assert take(store, again, idempotency_key="k")["duplicate"] == 1


@pytest.mark.ids("G12")
def test_bare_receipts_without_a_key_are_all_taken(store: SqliteStore) -> None:
    assert [take(store, receipt())["accepted"] for _ in range(3)] == [1, 1, 1]
    assert totals(store)["calls"] == 3


def test_an_idempotency_key_belongs_to_one_project(store: SqliteStore) -> None:
    from aicostguard.ledger import ingest

    project = store.default_project()
    ingest.accept(store, project, receipt(), NOW, idempotency_key="k")
    assert ingest.accept(store, project + 1, receipt(model="o3"), NOW, idempotency_key="k")["accepted"] == 1
    assert totals(store)["calls"] == 1, "another project's receipt shows"


def test_a_refused_receipt_does_not_hold_up_the_others(store: SqliteStore) -> None:
    bad: list[Any] = [receipt(prompt="hello"), receipt(input_tokens=-1), "text", receipt(model="two words")]
    reply = take(store, envelope([receipt(), *bad, receipt()]))
    assert reply["accepted"] == 2
    assert [(item["index"], item["field"]) for item in reply["refused"]] == [
        (1, "prompt"),
        (2, "input_tokens"),
        (3, ""),
        (4, "model"),
    ]
    assert take(store, envelope([receipt(), *bad, receipt()]))["duplicate"] == 2


def test_gaps_drops_and_refusals_are_known(store: SqliteStore) -> None:
    counters = {"generated": 9, "sent": 5, "dropped": 2}
    take(store, envelope([receipt()] * 3, first=1, counters=counters, service="shop", host="a1"))
    take(store, envelope([receipt(), receipt(nope=1)], first=8, counters={**counters, "generated": 12}))
    take(store, envelope([receipt(), receipt(nope=1)], first=8, counters=counters))
    (source,) = store.sources(store.default_project())
    assert (source.received, source.refused, source.max_seq, source.missing) == (4, 1, 9, 5)
    assert source.counters["generated"] == 12
    assert source.counters["dropped"] == 2
    assert source.origin == {"service": "shop", "host": "a1"}
    assert source.epoch == EPOCH


def test_a_job_that_fails_does_not_spoil_its_neighbours(store: SqliteStore) -> None:
    take(store, receipt(), idempotency_key="k")
    results: dict[str, Any] = {}
    inside, gate = threading.Event(), threading.Event()

    def hold(_: Any) -> None:
        inside.set()
        gate.wait(5)

    blocked = threading.Thread(target=lambda: store._writer.do(hold))
    blocked.start()
    inside.wait(5)

    def send(name: str, body: Any, **more: Any) -> None:
        try:
            results[name] = take(store, body, **more)
        except Refused as error:
            results[name] = error.status

    jobs = [
        threading.Thread(target=send, args=("before", envelope([receipt()], name=epoch()))),
        threading.Thread(target=send, args=("bad", receipt(team="x")), kwargs={"idempotency_key": "k"}),
        threading.Thread(target=send, args=("after", envelope([receipt()], name=epoch()))),
    ]
    for job in jobs:
        job.start()
    wait_for(lambda: store._writer._jobs.qsize() == 3, "three jobs for one commit")
    gate.set()
    for job in (*jobs, blocked):
        job.join()
    assert results["bad"] == 422
    assert results["before"]["accepted"] == results["after"]["accepted"] == 1
    assert totals(store)["calls"] == 3
