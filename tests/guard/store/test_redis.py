"""A real server: restarted, stopped, gone, three of them as a cluster, and over TLS."""

from __future__ import annotations

import signal
import socket
import subprocess
import threading
import time

import pytest

pytest.importorskip("redis")

from aicostguard.guard.engine import Guard
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.policy import BadPolicy, Budget, Policy
from aicostguard.guard.store import Counter, Held, StoreFailed, open_store
from aicostguard.guard.store import redis as module
from aicostguard.guard.store.redis import RESERVE, RedisStore
from aicostguard.guard.values import Bound, Facts, Spent
from tests.delivery.fake_ledger import free_port
from tests.guard.store.servers import Cluster, Server

NOW = 1_795_959_000_000
B = Counter("b/", 100)
CALL = Facts({}, Bound(10, 1, 1), NOW)
POLICY = Policy(budgets=(Budget("b", 100),))


@pytest.fixture
def server():
    made = Server()
    yield made
    made.close()


class Deaf:
    """Between client and server: of a script, when it is told to, it passes on the question and loses the answer."""

    def __init__(self, port: int) -> None:
        self.loses, self.lost = False, 0
        self._server = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]

    def __enter__(self) -> Deaf:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        for one in self._open:
            one.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server))
            except OSError:
                return
            self._open += [client, server]
            threading.Thread(target=self._pass_on, args=(client, server), daemon=True).start()

    def _pass_on(self, client: socket.socket, server: socket.socket) -> None:
        with client, server:
            while True:
                try:
                    asked = client.recv(65536)
                    if not asked:
                        return
                    server.sendall(asked)
                    answer = server.recv(65536)
                    if self.loses and b"EVAL" in asked and not answer.startswith(b"-NOSCRIPT"):
                        self.loses, self.lost = False, self.lost + 1
                        return
                    client.sendall(answer)
                except OSError:
                    return


def patient(url: str) -> RedisStore:
    return RedisStore(url, "test", timeout=20.0)


def until_held(guard):
    """The server answers again, after the pause in which it is not asked."""
    end = time.monotonic() + 60
    while True:
        ticket = guard.ask(CALL)
        if ticket.held:
            return ticket
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.ids("D11", "ACC:B10")
def test_a_server_that_is_restarted_is_found_again_with_all_it_had(server) -> None:
    store = patient(server.url)
    guard = Guard(POLICY, store, clock=lambda: NOW)
    held = guard.ask(CALL)
    assert held.held == (10,)
    server.stop()
    through = guard.ask(CALL)
    assert through.held == ()  # open: nobody knows
    guard.settle(through, Spent(5, 1))
    guard.settle(held, Spent(4, 1))
    server.start()
    guard.settle(until_held(guard), Spent(1, 1))
    guard._owed.tidy(NOW)
    (status,) = guard.status()
    assert (status.spent, status.reserved) == (10, 0)
    guard.close()


@pytest.mark.ids("D11")
def test_more_leases_than_one_script_takes_run_out_together(server, monkeypatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    store = patient(server.url)
    for number in range(5):
        store.reserve("t%d" % number, [B], [10], NOW, NOW + 1000)
    assert store.expire(NOW + 1000) == 5
    assert [tuple(row)[1:] for row in store.read("b/", NOW)] == [(50, 0, 0, 5)]
    store.close()


def test_a_server_that_hangs_costs_a_moment_and_then_nothing(server) -> None:
    store = RedisStore(server.url, "test", timeout=0.3)
    guard = Guard(POLICY._replace(on_store_failure="closed"), store, clock=lambda: NOW)
    patient(server.url).read("", NOW)
    server.pause(signal.SIGSTOP)
    try:
        with pytest.raises(BudgetExceeded):
            guard.ask(CALL)
        store._away = time.monotonic() + 600  # the pause, as long as this test may need
        before = time.thread_time()
        for _ in range(100):
            with pytest.raises(BudgetExceeded):
                guard.ask(CALL)
        assert time.thread_time() - before < 5
    finally:
        server.pause(signal.SIGCONT)
    guard.close()


def test_a_script_that_is_sent_twice_is_carried_out_once(server) -> None:
    store = patient(server.url)
    for _ in range(2):
        assert store.reserve("a", [B], [60], NOW, NOW + 1000) == Held((60,))
    assert store.read("", NOW)[0].reserved == 60
    store.close()


def test_what_is_sent_once_more_because_its_answer_was_lost_is_carried_out_once(server) -> None:
    with Deaf(server.port) as between:
        store = patient("redis://127.0.0.1:%d" % between.port)
        assert store.reserve("a", [B], [60], NOW, NOW + 1000) == Held((60,))
        for step in (
            lambda: store.reserve("b", [B], [10], NOW, NOW + 1000) == Held((10,)),
            lambda: store.grow("a", [B], [20], NOW, NOW + 2000),
            lambda: store.once("first", NOW + 60_000, NOW),
            lambda: store.once("for good", 0, NOW),
        ):
            lost = between.lost
            between.loses = True
            assert step()
            assert between.lost == lost + 1
        assert store.grow("a", [B], [5], NOW, NOW + 2000), "another question"
        assert not store.once("first", NOW + 60_000, NOW) and not store.once("for good", 0, NOW)
        assert store.once("first", NOW + 120_000, NOW + 60_000)
        assert store.read("", NOW)[0].reserved == 95
        store.close()


def test_a_server_that_forgot_the_scripts_is_told_again(server) -> None:
    store = patient(server.url)
    store.reserve("a", [B], [1], NOW, NOW + 1000)
    assert server.say(b"SCRIPT FLUSH").startswith(b"+OK")
    assert store.reserve("b", [B], [1], NOW, NOW + 1000) == Held((1,))
    assert server.say(b"SCRIPT EXISTS " + RESERVE.sha.encode()).strip().endswith(b":1")
    store.close()


@pytest.mark.ids("Z2")
def test_a_cluster_keeps_all_of_a_policy_on_one_node() -> None:
    cluster = Cluster()
    try:
        stores = [RedisStore(cluster.url, name, timeout=20.0) for name in ("one", "two", "three", "four")]
        for store in stores:
            row = Counter("rolling/", 10, window=60, until=NOW + 10**7)
            assert store.reserve("a", [B, row], [30, 3], NOW, NOW + 1000) == Held((30, 3))
            assert store.settle("a", ["b/", "rolling/"], [20, 2], False, NOW) == (20, 2)
            store.reserve("b", [B, row], [5, 1], NOW, NOW + 1000)
            assert store.expire(NOW + 1000) == 1 and store.once("k", 0, NOW) and not store.once("k", 0, NOW)
            assert [tuple(found) for found in store.read("", NOW)] == [
                ("b/", 25, 0, 0, 1),
                ("rolling/", 3, 0, 0, 1),
            ]
            store.rebuild({"b/": 1}, [B], NOW)
            store.close()
    finally:
        cluster.close()


def test_over_tls(tmp_path) -> None:
    key, crt = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", crt, "-days", "2"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"],
        check=True,
        capture_output=True,
    )
    port = free_port()
    words = ("--tls-port", str(port), "--tls-cert-file", crt, "--tls-key-file", key, "--tls-auth-clients", "no")
    server = Server(*words, "--tls-ca-cert-file", crt)
    try:
        store = patient("rediss://127.0.0.1:%d/0?ssl_ca_certs=%s" % (port, crt))
        assert store.reserve("a", [B], [1], NOW, NOW + 1000) == Held((1,))
        store.close()
        stranger = patient("rediss://127.0.0.1:%d/0" % port)
        with pytest.raises(StoreFailed):
            stranger.reserve("a", [B], [1], NOW, NOW + 1000)
        stranger.close()
    finally:
        server.close()


@pytest.mark.ids("E9")
def test_what_is_said_of_a_failure_holds_no_address_and_no_password() -> None:
    store = RedisStore("redis://user:canary-secret@127.0.0.1:%d/0" % free_port(), "test")
    with pytest.raises(StoreFailed) as failure:
        store.reserve("a", [B], [1], NOW, NOW + 1000)
    assert "canary" not in str(failure.value) and "127.0.0.1" not in str(failure.value)
    store.close()


def test_without_the_package_the_remedy_is_named(monkeypatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redis", None)
    with pytest.raises(StoreFailed, match=r"aicostguard\[guard\]"):
        RedisStore("redis://127.0.0.1:1/0").reserve("a", [B], [1], NOW, NOW + 1000)


@pytest.mark.parametrize("where", ["redis", "redis://", "postgres://x", "sqlite://x", "sqlite:///", "file", ""])
def test_an_address_that_is_none_is_refused_without_being_repeated(where) -> None:
    with pytest.raises(BadPolicy, match="write memory, sqlite, sqlite:///path"):
        open_store(where, "x", "/nowhere")


def test_names_keep_policies_apart(server) -> None:
    one, two = RedisStore(server.url, "one", timeout=20.0), RedisStore(server.url, "two", timeout=20.0)
    one.reserve("a", [B], [100], NOW, NOW + 1000)
    assert two.reserve("a", [B], [100], NOW, NOW + 1000) == Held((100,))
    assert module.RedisStore(server.url, "one")._base == one._base != two._base
    one.close()
    two.close()
