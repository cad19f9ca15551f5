"""BAML with its own runtime, whose requests are sent from Rust: each that was billed has its receipt."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import textwrap
import types
from pathlib import Path
from typing import Any, Iterator, List

import pytest

from aicostguard import labels
from aicostguard.capture.state import state
from aicostguard.capture.transports import baml
from aicostguard.guard import enforcing
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.policy import Budget
from aicostguard.health import health
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.around import as_in_production
from tests.baml import CLIENTS, Runtime, client, function, sources
from tests.capture.tools import both, kind, only
from tests.guard.budgets import CENT, billed, cap, gate, standing
from tests.ids import ROOT

baml_py = pytest.importorskip("baml_py")

__all__ = ["as_in_production"]
pytestmark = pytest.mark.ids("G09")

#: how a function is called, and the function below that does so
MODES = {"call": "call", "await": "begin", "astream": "stream"}


@pytest.fixture(autouse=True)
def no_gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No gate after a test; and BAML does not print what it does."""
    monkeypatch.setenv("BAML_LOG", "off")
    baml_py.baml_py.set_log_level("off") if hasattr(baml_py.baml_py, "set_log_level") else None
    yield
    enforcing.stop()
    assert not baml._waiting


@pytest.fixture
def runtime(agent: Agent) -> Runtime:
    return Runtime(sources(agent.url))


def dead_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", [*CLIENTS, "Bedrock"])
def test_each_answer_is_counted_once_and_nothing_else_changes(
    name: str, mode: str, agent: Agent, runtime: Runtime
) -> None:
    def use() -> Any:
        runtime.collector = baml_py.Collector("the user's")
        return kind(runtime.ask("F" + name, mode)), len(runtime.collector.last.calls)

    assert both(agent, use)[1] == 1
    agent.balance()
    receipt = only(agent)
    assert receipt["feature"] == MODES[mode]
    assert bool(receipt.get("streamed")) == (mode == "astream")
    assert "partial" not in receipt and "usage_missing" not in receipt and "ttft_ms" not in receipt


def test_a_blocking_stream_is_counted(tmp_path: Path) -> None:
    """In a program of its own: BAML holds Python's lock while it reads one, so that no simulator can answer in here."""
    program = """
        import json, subprocess, sys
        ran = subprocess.Popen([sys.executable, "-m", "aicostguard.simulator"], stdout=subprocess.PIPE)
        told = json.loads(ran.stdout.readline())
        try:
            from aicostguard import config
            from aicostguard.capture import hooks
            from aicostguard.capture.state import state
            got = []
            state.deliver, state.hosts = got.append, config.load({"AICG_HOSTS": told["AICG_HOSTS"]}).hosts
            hooks.install()
            from tests.baml import CLIENTS, Runtime, sources
            seen = []
            for name in CLIENTS:
                runtime = Runtime(sources(told["urls"].__getitem__))
                list(runtime.sync_stream("F" + name))
                usage = runtime.collector.last.usage
                seen.append([usage.output_tokens, got[-1]["output_tokens"], got[-1]["feature"], got[-1]["streamed"]])
            print(json.dumps([seen, len(got)]))
        finally:
            ran.terminate()
    """
    path = tmp_path / "program.py"
    path.write_text(textwrap.dedent(program))
    env = dict(os.environ, PYTHONPATH=str(ROOT), BAML_LOG="off", AICG_TEST_RAISE="1")
    done = subprocess.run([sys.executable, str(path)], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    seen, count = json.loads(done.stdout.splitlines()[-1])
    assert count == len(CLIENTS)
    for theirs, ours, feature, streamed in seen:
        assert theirs == ours and feature == "sync_stream" and streamed


def test_retries_and_fallbacks(agent: Agent, runtime: Runtime) -> None:
    """What failed before was not billed; the answer says how often it was tried."""
    url = agent.url("openai")
    source = client("Dead", "openai", model="gpt-4o", api_key="x", base_url="http://127.0.0.1:%d/v1" % dead_port())
    source += client("Lost", "openai", model="gpt-4o", api_key="x", base_url=url + "/nowhere")
    source += "client<llm> Chain {\n  provider fallback\n  options {\n    strategy [Dead, Lost, OpenAI]\n  }\n}\n"
    chain = Runtime(sources(agent.url) + source + function("Chain"))
    for mode in MODES:
        agent.receipts.clear()
        agent.simulator.reset_count()
        chain.ask("FChain", mode)
        assert only(agent)["attempts"] == 3
        agent.balance()
    assert "interrupted" not in health.notes


def test_an_answer_that_cannot_be_parsed_was_billed(agent: Agent) -> None:
    source = "class Shape {\n  side int\n  name string\n}\n" + sources(agent.url)
    source += function("OpenAI", "Shape").replace("FOpenAI", "Parsed")
    made = Runtime(source)
    for number, mode in enumerate(MODES, 1):
        made.ask("Parsed", mode)  # which raises when the generated client takes the value
        assert len(agent.settled(number)) == number
    agent.balance()
    assert not any(receipt.get("partial") for receipt in agent.receipts)


class Silent:
    """A server that takes requests and never answers, or breaks off in the middle of a stream."""

    def __init__(self, says: bytes = b"") -> None:
        self._says = says
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        state.hosts = (*state.hosts, ("127.0.0.1", self.port, "openai"))

    def __enter__(self) -> str:
        import threading

        threading.Thread(target=self._serve, daemon=True).start()
        return "http://127.0.0.1:%d/v1" % self.port

    def __exit__(self, *_: Any) -> None:
        self._server.close()

    def _serve(self) -> None:
        kept = []
        while True:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            kept.append(connection)
            connection.recv(65536)
            if self._says:
                connection.sendall(self._says)
                connection.close()


def test_what_has_no_answer_is_interrupted(agent: Agent) -> None:
    with Silent() as url:
        source = client("Slow", "openai", model="gpt-4o", api_key="x", base_url=url)
        timed = source.replace('api_key "x"', 'api_key "x"\n    http {\n      request_timeout_ms 200\n    }')
        assert not Runtime(timed).call("FSlow").is_ok()
        assert health.notes["interrupted"] == 1

        async def cancel() -> None:
            task = Runtime(source).begin("FSlow")
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)

        asyncio.run(cancel())
    assert health.notes["interrupted"] == 2
    assert not agent.receipts


def test_a_stream_that_breaks_off_is_partial(agent: Agent) -> None:
    event = json.dumps({"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o",
                        "choices": [{"index": 0, "delta": {"content": "one"}}]})  # fmt: skip
    data = b"data: %s\n\n" % event.encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    with Silent(head + b"%x\r\n%s\r\n" % (len(data), data)) as url:
        made = Runtime(client("Broken", "openai", model="gpt-4o", api_key="x", base_url=url))
        made.ask("FBroken", "astream")
    receipt = only(agent)
    assert receipt["partial"] and receipt["usage_missing"] and receipt["model"] == "gpt-4o"


def test_what_runs_at_once_keeps_its_own_labels(agent: Agent, runtime: Runtime) -> None:
    async def ask(user: str) -> None:
        with labels(user=user):
            await runtime.begin("FOpenAI")

    async def everybody() -> None:
        await asyncio.gather(*(ask("u%d" % number) for number in range(20)))

    asyncio.run(everybody())
    assert sorted(receipt["user"] for receipt in agent.settled(20)) == sorted("u%d" % number for number in range(20))
    agent.balance()


def test_the_generated_client_is_nobody_s_feature(
    agent: Agent, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "app_of_ours" / "baml_client"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    (package / "sync_client.py").write_text("def Hi(native, given):\n    return native.call_function_sync(*given)\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    from app_of_ours.baml_client.sync_client import Hi  # type: ignore[import-not-found]

    def greet() -> None:
        Hi(runtime.native, runtime._given("FOpenAI")[0])

    greet()
    assert only(agent)["feature"] == "greet"
    seen = Hi.__code__.co_filename
    from aicostguard.capture import installed

    assert installed.library(seen, "app_of_ours.baml_client.sync_client", False)
    assert not installed.library(str(package.parent / "main.py"), "app_of_ours.main", False)


def test_a_future_stays_one_that_is_at_work(agent: Agent, runtime: Runtime) -> None:
    async def run() -> Any:
        future = runtime.begin("FOpenAI")
        while not future.done():
            await asyncio.sleep(0.01)
        return kind(future)

    assert both(agent, lambda: asyncio.run(run())) == "_asyncio.Future"
    only(agent)


def test_inline_receipts_are_awaited(agent: Agent, runtime: Runtime) -> None:
    awaited: List[Any] = []

    async def deliver(receipts: Any) -> None:
        awaited.extend(receipts)

    state.inline, state.adeliver = True, deliver
    runtime.ask("FOpenAI", "await")
    assert len(awaited) == 1 and not agent.receipts
    runtime.ask("FOpenAI", "call")
    assert len(awaited) == 1 and len(agent.receipts) == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_budget_books_what_was_billed_and_refuses_the_rest(mode: str, agent: Agent, runtime: Runtime) -> None:
    gate(cap(100 * CENT))
    runtime.ask("FOpenAI", mode)
    after = standing()
    assert (after.spent, after.reserved, after.estimated) == (billed(agent.simulator), 0, 0)
    enforcing.stop()
    gate(cap(1))
    runtime.ask("FOpenAI", mode)  # of unknown bound: let through while something is left
    agent.simulator.reset_count()
    with pytest.raises(BudgetExceeded):
        runtime.ask("FOpenAI", mode)
    assert not agent.simulator.exchanges
    assert standing().reserved == 0


def test_a_stream_that_nobody_reads_holds_nothing(agent: Agent, runtime: Runtime) -> None:
    gate(Budget("few", 9, "requests"))
    streams = [runtime.stream("FOpenAI")]
    assert len(baml._waiting) == 1
    assert standing(reserved=1).reserved == 1
    for waiting in baml._waiting.values():
        baml._let_go(waiting)
    baml._waiting.clear()
    assert (standing().spent, standing().reserved) == (0, 0)
    assert not agent.simulator.exchanges
    streams.clear()


def test_a_stream_that_cannot_be_made_holds_nothing(agent: Agent, runtime: Runtime) -> None:
    gate(Budget("few", 9, "requests"))
    with pytest.raises(TypeError):
        runtime.native.stream_function("FOpenAI", {}, None, None, None, None, [], 5, {})
    after = standing()
    assert (after.spent, after.reserved, after.estimated) == (0, 0, 0)


def test_waiting_streams_are_bounded(agent: Agent, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baml, "MOST_WAITING", 3)
    streams = [runtime.stream("FOpenAI") for _ in range(10)]
    assert len(baml._waiting) == 3
    baml._waiting.clear()
    streams.clear()


def test_a_failed_call_leaves_its_room(agent: Agent) -> None:
    gate(Budget("few", 9, "requests"))
    made = Runtime(client("Dead", "openai", model="gpt-4o", api_key="x", base_url="http://127.0.0.1:%d" % dead_port()))
    for mode in MODES:
        made.ask("FDead", mode)
    after = standing()
    assert (after.spent, after.reserved, after.estimated) == (0, 0, 0)


def test_a_fault_of_ours_is_counted_and_changes_nothing(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, as_in_production: None
) -> None:
    health.reset()
    agent = Agent(simulator)
    agent.on()
    try:
        runtime = Runtime(sources(agent.url))
        monkeypatch.setattr(baml, "address", lambda url: 1 / 0)
        for number, mode in enumerate(MODES, 1):
            assert "word3" in str(runtime.ask("FOpenAI", mode))
            assert health.counters["unmetered"] == number
    finally:
        agent.off()
        health.reset()


def test_one_without_collectors_is_not_taken_for_one_with_them() -> None:
    """Its calls cannot be counted, and that is said."""

    class Old:
        @staticmethod
        def call() -> None:
            """Nothing."""

    Old.call.__text_signature__ = "($self, function_name, args, ctx, tb, cb)"  # type: ignore[attr-defined]
    with pytest.raises(LookupError, match="collectors"):
        baml._collectors(Old.call)
    assert baml._collectors(types.SimpleNamespace(__text_signature__="($self, a, collectors=None)")) == 1
