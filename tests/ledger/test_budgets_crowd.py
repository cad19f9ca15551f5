"""Many programs at one budget, over real sockets, in any language, while the ledger is killed: never above the cap."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from aicostguard import ledger
from aicostguard.guard import stated
from aicostguard.ledger import keys
from aicostguard.ledger.access import keyring, places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.principal import ROLES
from aicostguard.ledger.budgets import status
from aicostguard.ledger.budgets.desk import Desk
from tests.ledger.support import KEY, NOW, environment, served, wait_for

CAP = 75
CLIENTS, CALLS = 16, 10
#: a program that knows nothing of us: plain `http.client`. It asks, "makes" the call and writes down what the provider
#: would bill; it retries what gets no answer, as whoever wants to be sure does.
CLIENT = """
import http.client, json, os, random, sys, time
port_file, key, number, calls, log = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
pick = random.Random(number)
def post(path, body, name=None):
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", int(open(port_file).read()), timeout=20)
            headers = {"Authorization": "Bearer " + key}
            if name:
                headers["Idempotency-Key"] = name
            connection.request("POST", path, json.dumps(body), headers)
            if pick.random() < 0.1:
                connection.close()  # the answer is lost; the ledger has done it, or has not
                continue
            reply = connection.getresponse()
            data = json.loads(reply.read())
            connection.close()
            if reply.status != 503:
                return reply.status, data
        except (OSError, ValueError, http.client.HTTPException):
            pass
        time.sleep(0.05)
    raise SystemExit("no answer")
for call in range(calls):
    status, data = post("/v1/authorize", {"model": "gpt-4o", "estimate_usd": 1}, "%d-%d" % (number, call))
    if status == 402:
        continue
    assert status == 200, data
    cost = pick.choice([0.25, 0.5, 1, 1, None])  # None: the provider answered with an error
    if cost is not None:
        with open(log, "a") as file:
            file.write("%s\\n" % cost)
    if pick.random() < 0.1:
        continue  # forgets it
    body = {"ticket": data["ticket"], "release": True} if cost is None else {"ticket": data["ticket"], "cost_usd": cost}
    assert post("/v1/settle", body)[0] == 200
"""


def _billed(folder: Path) -> float:
    return sum(float(line) for log in folder.glob("billed-*") for line in log.read_text().splitlines())


def _start(folder: Path, number: int, key: str) -> subprocess.Popen[bytes]:
    arguments = [str(folder / "port"), key, str(number), str(CALLS), str(folder / f"billed-{number}")]
    return subprocess.Popen([sys.executable, "-c", CLIENT, *arguments], env=environment())


def _prepared(folder: Path, **rule: Any) -> None:
    store = ledger.open_ledger(str(folder / "ledger.db"))
    store.add_key(KEY, "test", tuple(keys.SCOPES), store.default_project(), NOW)
    Desk(store, ledger.now_ms).put(store.default_project(), stated.budget({"name": "default", **rule}), "test")
    store.close()


def _told(folder: Path) -> Any:
    store = ledger.open_ledger(str(folder / "ledger.db"))
    try:
        Desk(store, ledger.now_ms).catch_up()
        return store.look(lambda c: status.budgets(c, store.default_project(), ledger.now_ms()))["budgets"][0]
    finally:
        store.close()


def _crowded(folder: Path, of: list[str], killed_at: tuple[float, ...]) -> None:
    """A program for each key, at a ledger that is killed whenever so many dollars are billed, and started again."""
    clients: list[subprocess.Popen[bytes]] = []
    try:
        for enough in (*killed_at, None):
            with served(folder) as (process, server):
                (folder / "new-port").write_text(str(server.port))
                (folder / "new-port").rename(folder / "port")
                clients = clients or [_start(folder, number, key) for number, key in enumerate(of)]
                if enough is None:
                    assert [client.wait(120) for client in clients] == [0] * len(clients)
                else:
                    wait_for(lambda enough=enough: _billed(folder) > enough, "some calls", 60)
                    process.kill()
    finally:
        for client in clients:
            client.kill()
            client.wait(10)


@pytest.mark.ids("D1", "D2", "D3", "E7", "Z2", "ACC:B10")
def test_sixteen_programs_a_killed_ledger_and_lost_answers_never_pass_the_cap(tmp_path: Path) -> None:
    _prepared(tmp_path, limit_usd=CAP)
    _crowded(tmp_path, [KEY] * CLIENTS, killed_at=(10, 30))
    billed, told = _billed(tmp_path), _told(tmp_path)
    spent, reserved = float(told["spent_usd"]), float(told["reserved_usd"])
    assert billed <= CAP
    assert spent + reserved <= CAP
    assert billed <= spent + reserved, "what was forgotten is still held"
    assert billed > CAP * 0.8, "and what there was room for went through"


@pytest.mark.ids("D1", "D2", "D3", "ACC:A14", "Z2")
def test_programs_of_two_projects_and_a_killed_ledger_never_pass_the_cap_of_their_organisation(tmp_path: Path) -> None:
    cap = 20
    store = ledger.open_ledger(str(tmp_path / "ledger.db"))
    store.add_key(KEY, "test", tuple(keys.SCOPES), store.default_project(), NOW)
    other = store.change(lambda c: places.add_project(c, 1, "shop", Actor("test"), NOW)).id
    of_other = store.change(lambda c: keyring.add(c, other, ROLES["ingest"], Actor("test"), NOW, name="shop"))[0]
    desk = Desk(store, ledger.now_ms)
    desk.put(-1, stated.budget({"name": "cap", "limit_usd": cap}), "test")
    desk.put(other, stated.budget({"name": "own", "limit_usd": cap, "on_exceed": "warn"}), "test")
    store.close()
    _crowded(tmp_path, [KEY, of_other] * 3, killed_at=(cap / 4,))
    billed = _billed(tmp_path)
    store = ledger.open_ledger(str(tmp_path / "ledger.db"))
    try:
        Desk(store, ledger.now_ms).catch_up()
        cap_row, own = store.look(lambda c: status.budgets(c, other, ledger.now_ms()))["budgets"]
    finally:
        store.close()
    held = float(cap_row["spent_usd"]) + float(cap_row["reserved_usd"])
    assert cap * 0.7 < billed <= held <= cap, "both together, and what was forgotten is still held"
    assert 0 < float(own["spent_usd"]) + float(own["reserved_usd"]) < held, "each has had a part of it"


@pytest.mark.ids("D1", "D2")
def test_the_first_calls_of_a_new_budget_at_the_same_moment(tmp_path: Path) -> None:
    _prepared(tmp_path, limit_requests=3, per=["user"])
    with served(tmp_path) as (_, server):
        answers: list[int] = []
        together = threading.Barrier(8)

        def call() -> None:
            together.wait(30)
            body = json.dumps({"model": "gpt-4o", "user": "u"}).encode()
            answers.append(server.ask("POST", "/v1/authorize", body).status)

        threads = [threading.Thread(target=call) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(answers) == [200] * 3 + [402] * 5
