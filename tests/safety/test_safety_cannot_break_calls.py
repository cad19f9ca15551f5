"""Cannot break your AI calls: whatever of ours fails, the caller gets what it would have got without us.

Each function of ours that runs inside a user's call is found by watching calls run, and made to raise in turn. Two
kinds have no turn of their own, and the test says which they are. `inject.guards`: functions that cannot raise by
their form; what they call has its turn. `STAND_INS`: the functions that stand where the library's own method stood
and pass the call on; to make one raise is to take the library's method away. They hold nothing but the call of the
original and calls of guards.
"""

from __future__ import annotations

import asyncio
import json
import logging
import re
import sys
from pathlib import Path
from types import CodeType
from typing import Any, Dict, Iterator, List, NamedTuple, Set, Type

import pytest

from aicostguard import auto
from aicostguard.capture import caller, hooks, patch
from aicostguard.capture.state import state
from aicostguard.delivery import Delivery
from aicostguard.health import health
from aicostguard.metering import endpoints
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.delivery.fake_ledger import Answer, BlackHole, FakeLedger
from tests.safety import inject, wiring
from tests.safety.calls import CALLS, Clients
from tests.safety.inject import Planted
from tests.safety.wiring import Wire

#: stand-ins for a method of a library or of the import system, and what a user calls directly, by name
STAND_INS = re.compile(
    r"transports/httpx_like\.py:_a?sync_send\.send"
    r"|capture/pieces\.py:(Sync|Async)Pieces\..*"
    r"|transports/httpx_decoding\.py:(Bytes|Pieces)Decoder\.(decode|flush)"
    r"|transports/httpx_like\.py:_streams\.Tapped(Async)?Stream\.(__a?iter__|a?close|__getattr__)"
    r"|transports/requests\.py:_send\.send|transports/requests\.py:_told"
    r"|transports/requests_hooked\.py:_(dispatch_hook|send)\.\w+"
    r"|capture/tap\.py:ends_tap\.close|capture/session\.py:a?closing\.close|transports/requests\.py:_iter_content\.\w+"
    r"|transports/urllib3\.py:(_urlopen|_fp_read|_handle_chunk|_update_chunk_length|_decode|_release_conn)\.\w+"
    r"|transports/http_client\.py:(_putrequest|_endheaders|_getresponse|_reads|_close)\.\w+"
    r"|transports/urllib3_future\.py:(_fp_read|_afp_read|_aclose)\.\w+|transports/niquests\.py:_a?send\.send"
    r"|transports/curl_cffi\.py:(_a?request|_a?iter_content|_aiter_content|_a?close|_a?told)(\.\w+)?"
    r"|transports/tornado\.py:(_fetch_impl\.fetch_impl|_told\.streaming_callback|_finished\.finished)"
    r"|transports/lm15\.py:(_stream\.stream|_do_stream\._do_stream|_released\.release|_areleased\.release)"
    r"|capture/entries/botocore\.py:_(sync|coroutine)\._make_api_call"
    r"|transports/aiohttp\.py:(_request\._request|_drained\.drained|_set_exception\.set_exception)"
    r"|transports/aiohttp\.py:TappedDeque\.append"
    r"|transports/websockets\.py:_a?(send|recv|recv_streaming|handshake)\.\w+"
    r"|transports/websockets\.py:_a?gathered"
    r"|transports/websocket_client\.py:_(connect|send|recv_data_frame)\.\w+"
    r"|transports/aiohttp_ws\.py:_(send|receive)\.\w+"
    r"|transports/httpx2_ws\.py:_a?(send|receive)\.make(\.\w+)?|transports/httpx2_ws\.py:_a?close\.close"
    r"|transports/(httpx|requests|aiohttp)_asking\.py:Question\.a?send"
    r"|transports/httpx_asking\.py:(Sync|Async)Pieces\..*|transports/aiohttp_asking\.py:HidingDeque\.append"
    r"|capture/entries/claude_agent\.py:_(start|query|receive_messages|close)\.\w+"
    r"|transports/grpc\.py:_(blocking|started|astarted|read|cancel|awaited)\.\w+"
    r"|transports/grpc\.py:_(Des|S)erializer\.__call__"
    r"|capture/entries/logical\.py:(sync|coroutine)\.request"
    r"|capture/handover/parcel\.py:deliver"
    r"|capture/handover/pools\.py:(_made\.made|_run\.run)"
    r"|capture/handover/threads\.py:(_start\.start|_bootstrap\._bootstrap)"
    r"|capture/handover/tasks\.py:.*\.(create_task|call_soon_threadsafe)"
    r"|capture/handover/anyio\.py:.*\.run_sync_in_worker_thread"
    r"|capture/handover/uvloop\.py:.*\.(run_forever|run_until_complete)"
    r"|capture/hooks\.py:_Finder\.(find_spec|_watched)"
    # Gives a lock back, and does nothing else: a fault planted there leaves it held for all that follows.
    r"|delivery/threads\.py:Imports\.__exit__"
    # What a finaliser raises reaches nobody; it holds calls of guards alone.
    r"|.*\.__del__"
)

#: files of ours with functions that run inside a call
FILES = sorted(
    path.relative_to(inject.ROOT).as_posix()
    for part in ("capture", "metering", "context.py", "receipt.py", "usage.py")
    for path in ([inject.ROOT / part] if part.endswith(".py") else sorted((inject.ROOT / part).rglob("[!_]*.py")))
)


class Reference(NamedTuple):
    """What each call gives without us, and which functions of ours it runs with us."""

    results: Dict[str, Any]
    reached: Dict[str, Set[CodeType]]

    def functions(self, path: str) -> List[CodeType]:
        """The functions of one file that have a turn."""
        every = {code for codes in self.reached.values() for code in codes}
        return sorted(
            (c for c in every if inject.name_of(c).startswith(path + ":") and has_turn(c)), key=inject.name_of
        )

    def calls(self, code: CodeType, most: int) -> List[str]:
        """Up to `most` calls that run this function, spread over the libraries."""
        every = [name for name, codes in self.reached.items() if code in codes]
        step = max(1, -(-len(every) // most))
        return every[code.co_firstlineno % step :: step] or every


def has_turn(code: CodeType) -> bool:
    """Is this function made to raise?"""
    return not STAND_INS.search(inject.name_of(code)) and not inject.guards(code)


def forget() -> None:
    """Nothing remembered between two injections: a cached answer would keep a function from being run."""
    caller.forget()
    endpoints._known.clear()
    state.endpoints.clear()
    for hook in hooks._hooks.values():
        hook.on, hook.failures = True, 0
    health.reset()
    Planted.raised = 0


def afresh() -> None:
    """The same, and no receipt was ever made."""
    wiring.end_delivery()
    forget()


def counted() -> bool:
    """Is a fault of ours, or the call that it cost, shown?"""
    shown = auto.stats()["counters"]
    return bool(shown["faults"] or shown["unmetered"])


@pytest.fixture(scope="session")
def reference(providers: Simulator, clients: Clients) -> Reference:
    providers.reset()
    results = {name: ask(clients) for name, ask in CALLS.items()}
    assert {name: ask(clients) for name, ask in CALLS.items()} == results, "two runs without us differ"
    agent = Agent(providers)
    agent.on()
    reached = {}
    for name, ask in CALLS.items():
        forget()
        with_us, reached[name] = inject.reached(lambda ask=ask: ask(clients))  # type: ignore[misc]
        assert with_us == results[name]
    agent.off()
    return Reference(results, reached)


@pytest.mark.ids("G16", "A8", "A22")
def test_nothing_is_left_out(reference: Reference) -> None:
    every = {code for codes in reference.reached.values() for code in codes}
    exempt = [inject.name_of(code) for code in every if STAND_INS.search(inject.name_of(code))]
    assert len([code for code in every if has_turn(code)]) > 90
    assert len(exempt) < 110
    # Guards are told by their form: one that stops being one gets a turn, and fails it.
    assert {"capture/tap.py:Tap.plain", "capture/call.py:Call.feed"} <= {
        inject.name_of(code) for code in every if inject.guards(code)
    }


@pytest.mark.ids("G16", "A8", "A22")
@pytest.mark.parametrize("path", FILES)
def test_a_fault_in_any_function_changes_no_result(
    path: str, reference: Reference, agent: Agent, clients: Clients, as_in_production: None
) -> None:
    functions = inject.functions()
    broken: List[str] = []
    most = 12 if path.startswith("capture") else 4
    for code in reference.functions(path):
        for name in reference.calls(code, most):
            forget()
            with inject.planted(code, functions):
                try:
                    result = CALLS[name](clients)
                except Exception as error:
                    result = repr(error)
            if result != reference.results[name]:
                broken.append("%s in %s: %s" % (inject.name_of(code), name, str(result)[:200]))
            elif Planted.raised and not counted():
                broken.append("%s in %s: not counted" % (inject.name_of(code), name))
    assert broken == []


# A socket of ours that a planted fault leaves to the garbage collector says so, where warnings are errors.
@pytest.mark.filterwarnings("ignore:Exception ignored (in|while final):pytest.PytestUnraisableExceptionWarning")
@pytest.mark.ids("G16", "A8", "A22", "G15")
@pytest.mark.parametrize("mode", ["background", "inline"])
def test_a_fault_in_any_function_of_delivery_changes_no_result(
    mode: str,
    wired: Wire,
    reference: Reference,
    clients: Clients,
    as_in_production: None,
) -> None:
    names = [name for name in ("httpx_plain", "httpx_async_stream") if name in CALLS]
    broken: List[str] = []
    tried = 0
    with FakeLedger() as ledger:
        wired(ledger.url, MODE=mode)
        for name in names:
            afresh()
            _, codes = inject.reached(lambda name=name: CALLS[name](clients))  # type: ignore[misc]
            functions = inject.functions()
            for code in sorted(codes, key=inject.name_of):
                if not inject.name_of(code).startswith(("delivery", "auto")) or not has_turn(code):
                    continue
                afresh()
                with inject.planted(code, functions):
                    try:
                        result = CALLS[name](clients)
                    except Exception as error:
                        result = repr(error)
                shown = counted()
                tried += 1
                if result != reference.results[name]:
                    broken.append("%s in %s: %s" % (inject.name_of(code), name, str(result)[:200]))
                elif Planted.raised and not shown:
                    broken.append("%s in %s: not counted" % (inject.name_of(code), name))
    assert broken == []
    assert tried > (20 if mode == "background" else 60)


def errors_of_the_machine() -> List[Type[BaseException]]:
    return [MemoryError, RecursionError, OSError, AttributeError, StopIteration, StopAsyncIteration, AssertionError]


@pytest.mark.ids("G16", "A8")
@pytest.mark.parametrize("error", errors_of_the_machine())
def test_no_kind_of_error_passes(
    error: Type[BaseException], reference: Reference, agent: Agent, clients: Clients, as_in_production: None
) -> None:
    functions = inject.functions()
    broken = []
    for path in ("capture/call.py", "capture/tap.py", "metering/meter.py", "receipt.py"):
        for code in reference.functions(path):
            for name in reference.calls(code, 3):
                forget()
                with inject.planted(code, functions, error):
                    try:
                        result = CALLS[name](clients)
                    except Exception as raised:
                        result = repr(raised)
                if result != reference.results[name]:
                    broken.append("%s in %s: %s" % (inject.name_of(code), name, str(result)[:200]))
    assert broken == []


@pytest.mark.ids("G16", "A8")
@pytest.mark.parametrize("error", [OSError("disk"), MemoryError(), RecursionError(), UnicodeError("x")])
def test_delivery_that_raises_changes_no_result(
    error: Exception, reference: Reference, agent: Agent, clients: Clients, as_in_production: None
) -> None:
    def deliver(receipt: Any) -> None:
        raise error

    state.deliver = deliver
    for name, ask in CALLS.items():
        assert ask(clients) == reference.results[name]
    assert health.counters["unmetered"] >= len(CALLS)
    # Every hook has seen nothing but faults by now, and says so when there were enough of them.
    while any(hook.on for label, hook in hooks._hooks.items() if label == "httpx"):
        assert CALLS["httpx_plain"](clients) == reference.results["httpx_plain"]
    assert "switched off after" in auto.stats()["hooks"]["httpx"]


@pytest.mark.ids("G16", "A8")
@pytest.mark.parametrize(
    "name, chain",
    [
        ("httpx_plain", 1),
        # Beneath requests stand urllib3 and http.client: when the outermost does not count, the next one tries.
        ("requests_plain", 3),
        ("urllib_plain", 1),
        ("aiohttp_plain", 1),
        ("openai_stream", 1),
    ],
)
def test_a_hook_that_keeps_failing_switches_itself_off_and_the_calls_go_on(
    name: str,
    chain: int,
    reference: Reference,
    agent: Agent,
    clients: Clients,
    as_in_production: None,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if name not in CALLS:
        pytest.skip("the library of %s is not installed" % name)
    code = next(c for c in reference.functions("capture/call.py") if inject.name_of(c).endswith(":begin"))
    functions = inject.functions()
    forget()
    with inject.planted(code, functions):
        for _ in range(patch.PATIENCE + 3):
            assert CALLS[name](clients) == reference.results[name]
    assert Planted.raised == patch.PATIENCE * chain, "a hook that is off does no work"
    shown = auto.stats()
    assert shown["counters"]["faults"] == patch.PATIENCE * chain
    off = [label for label, what in shown["hooks"].items() if "switched off after" in what]
    assert len(off) == chain
    assert [record.message for record in caplog.records if "switched itself off" in record.message]


@pytest.mark.ids("G16", "A8")
def test_a_logging_handler_that_raises_changes_no_result(
    reference: Reference, agent: Agent, clients: Clients, as_in_production: None
) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("the user's handler")

    handler = Broken()
    logger = logging.getLogger("aicostguard")
    logger.addHandler(handler)
    try:
        # A stream without usage warns in the middle of the user's reading.
        clients.simulator.set_default(no_usage=True)
        result = CALLS["openai_stream"](clients)
    finally:
        logger.removeHandler(handler)
        clients.simulator.set_default()
    assert len(result) >= 4
    assert health.faults == {"health.warn: RuntimeError": 1}
    assert agent.settled(1)[0]["usage_missing"] is True


def from_us(depth: int = 2) -> bool:
    """Is the caller of the caller part of the agent?"""
    name = str(sys._getframe(depth).f_globals.get("__name__", ""))
    return name.startswith("aicostguard.") and ".simulator" not in name


@pytest.mark.ids("G16", "A8")
@pytest.mark.parametrize("what", ["loads", "dumps"])
def test_json_that_raises_in_our_hands_changes_no_result(
    what: str,
    reference: Reference,
    wired: Wire,
    clients: Clients,
    as_in_production: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = getattr(json, what)

    def broken(*args: Any, **kwargs: Any) -> Any:
        if from_us():
            raise ValueError("planted")
        return original(*args, **kwargs)

    monkeypatch.setattr(json, what, broken)
    with FakeLedger() as ledger:
        wired(ledger.url, MODE="inline")
        for name in ("openai_plain", "openai_stream", "httpx_async_plain", "anthropic_stream"):
            if name in CALLS:
                assert CALLS[name](clients) == reference.results[name]
        if what == "dumps":
            assert health.counters["dropped"] > 0 and health.counters["faults"] > 0


@pytest.mark.ids("G16", "G13")
def test_a_full_queue_changes_no_result_and_counts_what_it_drops(
    reference: Reference, wired: Wire, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BlackHole() as hole:
        wired(hole.url, SPOOL="off")
        auto._delivery = delivery = Delivery(auto._settings)  # type: ignore[arg-type]
        state.deliver = delivery.submit
        delivery._queue.limit = 2
        for name, ask in CALLS.items():
            assert ask(clients) == reference.results[name]
        counters = auto.stats()["counters"]
        assert counters["generated"] >= len(CALLS)
        assert counters["dropped"] >= counters["generated"] - 4, "two in the queue, two on their way to the ledger"
        assert counters["faults"] == 0

        def balanced() -> bool:
            waiting = len(delivery._queue) + sum(len(batch.seq) for batch in delivery._courier._inflight.values())
            now = auto.stats()["counters"]
            return bool(now["dropped"] + waiting == now["generated"])

        assert inject.sleepless(2, balanced), "each receipt is waiting or counted as dropped"


@pytest.mark.ids("G16")
def test_clocks_that_go_backwards_change_no_result(
    reference: Reference, wired: Wire, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aicostguard.capture import call
    from aicostguard.clock import clock

    ticks = iter(range(10**9, 0, -1000))
    monkeypatch.setattr(call, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(clock, "time", lambda: float(next(ticks)))
    with FakeLedger() as ledger:
        wired(ledger.url, MODE="inline")
        for name, ask in CALLS.items():
            assert ask(clients) == reference.results[name]
        assert len(ledger.stored) >= len(CALLS)
        assert all(receipt["latency_ms"] >= 0 for receipt in ledger.stored.values())
        assert health.counters["faults"] == 0


@pytest.mark.ids("G16")
@pytest.mark.parametrize(
    "answer, taken",
    [
        (Answer(401), False),
        (Answer(500), False),
        (Answer(302, (("Location", "/"),)), False),
        (Answer(drop=True), False),
        (Answer(200, body=b"{"), True),
    ],
    ids=["wrong key", "broken", "moved", "dead", "mumbling"],
)
def test_a_ledger_in_trouble_and_a_full_disk_change_no_result(
    answer: Answer,
    taken: bool,
    reference: Reference,
    wired: Wire,
    clients: Clients,
    tmp_path: Path,
    as_in_production: None,
) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    with FakeLedger(then=answer) as ledger:
        wired(ledger.url, MODE="inline", STATE_DIR=str(blocked))
        for name, ask in CALLS.items():
            assert ask(clients) == reference.results[name]
        counters = auto.stats()["counters"]
        assert counters["generated"] >= len(CALLS)
        assert counters["sent"] == (counters["generated"] if taken else 0)
        # Neither trouble is silent: the ledger's is a warning, the disk's is a fault.
        assert counters["faults"] > 0
        warned = [text for text in auto.stats()["warnings"].values() if "ledger" in text or "AICG_URL" in text]
        assert bool(warned) is not taken
        auto.shutdown(3)  # while faults are still counted and not raised: it tries the disk once more


INTERRUPTS: List[Type[BaseException]] = [KeyboardInterrupt, SystemExit, asyncio.CancelledError, GeneratorExit]


@pytest.mark.ids("G16", "A7")
@pytest.mark.parametrize("error", INTERRUPTS[:3])
def test_an_interrupt_inside_our_code_is_the_users(
    error: Type[BaseException], reference: Reference, agent: Agent, clients: Clients, as_in_production: None
) -> None:
    functions = inject.functions()
    swallowed = []
    for code in reference.functions("capture/call.py") + reference.functions("metering/meter.py"):
        name = "httpx_plain" if code in reference.reached["httpx_plain"] else "httpx_stream"
        if code not in reference.reached[name]:
            continue
        forget()
        with inject.planted(code, functions, error):
            try:
                CALLS[name](clients)
            except error:
                continue
            swallowed.append(inject.name_of(code))
    assert swallowed == []
    assert health.counters["faults"] == 0


@pytest.mark.ids("G16", "A7")
@pytest.mark.parametrize("error", INTERRUPTS)
def test_an_interrupt_of_the_host_passes_and_leaves_us_whole(error: Type[BaseException], agent: Agent) -> None:
    httpx = pytest.importorskip("httpx")

    def answer(request: Any) -> Any:
        raise error()

    class Torn(httpx.SyncByteStream):  # type: ignore[name-defined, misc]
        def __iter__(self) -> Iterator[bytes]:
            yield b'data: {"model":"gpt-4o","choices":[]}\n\n'
            raise error()

    url = agent.url("openai") + "/v1/chat/completions"
    with httpx.Client(transport=httpx.MockTransport(answer)) as client, pytest.raises(error):
        client.post(url, json={"model": "gpt-4o"})
    torn = httpx.MockTransport(lambda request: httpx.Response(200, stream=Torn()))
    with httpx.Client(transport=torn) as client, pytest.raises(error):
        client.post(url, json={"model": "gpt-4o"})
    # The nesting guard was put back: the next call is metered.
    before = len(agent.receipts)
    with httpx.Client() as client:
        client.post(url, json={"model": "gpt-4o", "messages": []})
    assert len(agent.receipts) == before + 1
    assert health.counters["faults"] == 0


@pytest.mark.ids("G16", "A7")
@pytest.mark.parametrize("library", ["openai", "aiohttp", "httpx"])
@pytest.mark.parametrize("when", ["call", "stream"])
def test_cancelling_a_task_cancels_it(library: str, when: str, agent: Agent, clients: Clients) -> None:
    from tests.safety import calls

    pytest.importorskip(library)
    slow: Dict[str, Any] = {"first_delay_ms": 5000} if when == "call" else {"delay_ms": 5000}
    begun: List[bool] = []  # no asyncio.Event: on 3.9 it binds to the loop that is current when it is made

    async def ask() -> None:
        arguments = calls.post(clients, stream=True, **slow)
        if library == "openai":
            stream = await clients["openai async"].chat.completions.create(
                model=calls.GPT, messages=calls.HI, stream=True, extra_headers={"x-sim": arguments["headers"]["x-sim"]}
            )
            async for _ in stream:
                begun.append(True)
        elif library == "aiohttp":
            async with clients["aiohttp"].post(**arguments) as answer:
                async for _ in answer.content.iter_any():
                    begun.append(True)
        else:
            arguments["content"] = arguments.pop("data")
            async with clients["httpx async"].stream("POST", **arguments) as answer:
                async for _ in answer.aiter_bytes():
                    begun.append(True)

    async def cancel() -> None:
        task = asyncio.ensure_future(ask())
        if when == "stream":
            for _ in range(500):
                if begun:
                    break
                await asyncio.sleep(0.01)
        else:
            await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, 1)

    clients.run(cancel())
    assert inject.sleepless(2, lambda: len(agent.receipts) >= (1 if when == "stream" else 0))
    assert [receipt.get("partial") for receipt in agent.receipts] == ([True] if when == "stream" else [])
    assert health.counters["faults"] == 0
