"""A fault of ours is counted, whatever kind of exception it is; a mistake of the user's is none of ours."""

from __future__ import annotations

import asyncio
import importlib
import re
from pathlib import Path
from typing import Any, Callable, Dict, List

import pytest

from aicostguard import auto
from aicostguard.capture import permit, watchdog
from aicostguard.capture.call import Call
from aicostguard.capture.patch import PATIENCE, Hook
from aicostguard.capture.state import state
from aicostguard.health import MAX_KINDS, Health, health
from aicostguard.metering import Endpoint
from tests.agent import Agent
from tests.around import as_in_production
from tests.capture.tools import CHAT

__all__ = ["as_in_production"]

PATH = "/v1/chat/completions"


class Broken:
    """What a call or a stream is read by, with a fault that an end on another thread could be taken for."""

    done = False
    watch = True

    def feed(self, data: bytes) -> None:
        raise IndexError("ours")

    def passing(self, *_: Any) -> Any:
        raise IndexError("ours")

    def told(self, data: bytes) -> None:
        raise IndexError("ours")

    def lost(self, *_: Any) -> None:
        """As of a gate."""


def call() -> Call:
    return Call(Hook("test"), Endpoint("openai", "chat"), None, lambda: None, False)


@pytest.mark.ids("A8", "A22")
def test_a_fault_that_looks_like_an_end_is_counted(as_in_production: None) -> None:
    health.reset()
    broken: Any = Broken()
    one = call()
    one._meter = [broken]
    one.feed(b"data: {}\n\n")
    assert health.faults == {"test.call.feed: IndexError": 1} and health.counters["unmetered"] == 1
    one.feed(b"more")
    assert health.counters["unmetered"] == 1, "no further byte of it is looked at"
    health.reset()
    held = permit.Hold(broken, broken)
    other = call()
    other.hold = held
    permit.passed(other, b"data: {}\n\n")
    assert health.faults == {"permit.passed: IndexError": 1}
    held.lost()
    assert held.passing(other, b"") is None, "answered: nobody asks any more"
    health.reset()


@pytest.mark.ids("A8", "A22")
def test_a_fault_in_a_message_of_grpc_is_counted(as_in_production: None) -> None:
    from aicostguard.capture.transports import grpc

    health.reset()
    broken: Any = Broken()
    tap = grpc.Tap(call(), broken, True)
    tap.told(b"x")
    tap.told(b"x")
    assert health.faults == {"test.call.told: IndexError": 1} and health.counters["unmetered"] == 1
    health.reset()


def by_requests(url: str) -> None:
    requests: Any = importlib.import_module("requests")
    with requests.Session() as session:
        prepared = requests.Request("POST", "http://a/b").prepare()
        prepared.url = url
        session.send(prepared)


def by_curl_cffi(url: str) -> None:
    importlib.import_module("curl_cffi.requests").post(url, json=CHAT)


def by_aiohttp(url: str, **base: Any) -> None:
    aiohttp: Any = importlib.import_module("aiohttp")

    async def ask() -> None:
        async with aiohttp.ClientSession(**base) as session:
            await session.post(url, json=CHAT)

    asyncio.run(ask())


def by_tornado(url: str) -> None:
    client: Any = importlib.import_module("tornado.simple_httpclient").SimpleAsyncHTTPClient

    async def ask() -> None:
        await client(force_instance=True).fetch(url, method="POST", body="{}")

    asyncio.run(ask())


#: library → a request to an address that is none
BY: Dict[str, Callable[[str], None]] = {
    "requests": by_requests,
    "curl_cffi": by_curl_cffi,
    "aiohttp": by_aiohttp,
    "tornado": by_tornado,
}


@pytest.mark.ids("A8", "A9", "A21")
@pytest.mark.parametrize("name", BY)
def test_an_address_that_is_none_is_no_fault_of_ours(name: str, agent: Agent, as_in_production: None) -> None:
    """Twenty faults in a row would switch the hook off, and the calls that come after would not be counted."""
    pytest.importorskip(name)
    for _ in range(PATIENCE + 1):
        with pytest.raises(Exception) as caught:
            BY[name]("http://127.0.0.1:port" + PATH)
        assert "aicostguard" not in type(caught.value).__module__
    assert health.faults == {} and not [text for text in health.warnings if text.startswith("hook-off")]


def test_an_address_that_its_library_does_not_take(agent: Agent, as_in_production: None) -> None:
    pytest.importorskip("aiohttp")
    with pytest.raises(Exception):
        by_aiohttp(None, base_url="http://127.0.0.1:1/")  # type: ignore[arg-type]
    assert health.faults == {}


@pytest.mark.ids("B14")
def test_at_one_unknown_address_each_sdk_has_its_own_provider(agent: Agent) -> None:
    from aicostguard import context
    from aicostguard.capture.call import begin

    found: List[str] = []
    for family in ("openai", "ai21", "openai", "writerai"):
        context.logical.set(context.Logical(family))
        begun = begin(Hook("test"), "POST", "gateway.example", None, PATH, lambda: None)
        context.logical.set(None)
        assert begun is not None
        found.append(begun.endpoint.provider)
    assert found == ["custom", "ai21", "custom", "writer"]
    assert begin(Hook("test"), "POST", "gateway.example", None, PATH, lambda: None) is None, "no SDK, no AI call"


@pytest.mark.ids("B14")
def test_the_same_by_the_address_that_httpx_keeps(agent: Agent) -> None:
    httpx: Any = pytest.importorskip("httpx")
    from aicostguard import context

    state.hosts = ()
    url = agent.url("openai").replace("127.0.0.1", "localhost") + PATH
    with httpx.Client() as client:
        for family in ("openai", "ai21", "openai"):
            context.logical.set(context.Logical(family))
            assert client.post(url, json=CHAT).status_code == 200
            context.logical.set(None)
    assert [receipt["provider"] for receipt in agent.receipts] == ["custom", "ai21", "custom"]


def test_a_host_that_is_met_is_remembered_beside_however_many_others() -> None:
    health.reset()
    dog = watchdog.Watchdog(None, lambda: None)
    for number in range(watchdog.MOST * 2):
        dog.met("%d.example" % number)
    dog._waiting["asked.example"] = 0.0
    dog.met("asked.example")
    dog.met("again.example")
    assert "asked.example" in dog._met and "0.example" not in dog._met
    dog.check()
    assert health.notes == {}
    assert len(dog._met) == watchdog.MOST
    health.reset()


def test_what_is_noted_by_host_leaves_room_for_the_rest() -> None:
    mine = Health()
    for number in range(MAX_KINDS * 2):
        mine.note("unrecognised:%d.example" % number)
    mine.note("usage_missing")
    mine.note("unrecognised:0.example")
    assert mine.notes["usage_missing"] == 1 and mine.notes["unrecognised:0.example"] == 2
    assert len(mine.notes) <= MAX_KINDS


def test_a_closed_stderr_takes_no_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    from aicostguard import health as module

    class Closed:
        asked = 0

        def write(self, text: str) -> None:
            Closed.asked += 1
            raise ValueError("I/O operation on closed file")

    monkeypatch.setattr(module, "_debug", True)
    monkeypatch.setattr(sys, "stderr", Closed())
    for _ in range(3):
        module.debug("fault in %s", "x")
    assert Closed.asked == 1


@pytest.mark.ids("A8")
def test_who_observes_and_raises_costs_no_receipt_and_who_has_stopped_is_not_called(
    agent: Agent, as_in_production: None
) -> None:
    seen: List[str] = []

    def listener(receipt: Any) -> None:
        seen.append(receipt["model"])
        raise LookupError("the listener's own")

    stop = auto.observe(listener)
    assert stop is not None
    layer = state.deliver

    def above(receipt: Any) -> None:
        assert layer is not None
        layer(receipt)

    try:
        above({"model": "m"})
        assert agent.receipts == [{"model": "m"}] and seen == ["m"]
        assert health.faults == {"auto.observe: LookupError": 1}
        state.deliver = above  # somebody has put himself in front since
        stop()
        above({"model": "n"})
        assert seen == ["m"] and len(agent.receipts) == 2
        asyncio.run(state.adeliver([{"model": "o"}]))  # type: ignore[misc]
        assert seen == ["m"] and len(agent.receipts) == 3
    finally:
        health.reset()


@pytest.mark.parametrize("port", [0, 65536, 99999])
def test_a_port_that_there_is_not_is_said(port: int) -> None:
    from aicostguard import config

    found = config.load({"AICG_HOSTS": "gateway.example:%d" % port})
    assert found.hosts == ()
    said = "AICG_HOSTS='gateway.example:%d': a port is 1 to 65535, not %d; the default is used"
    assert found.problems == (said % (port, port),)


def test_no_variable_of_ours_is_called_unknown() -> None:
    from aicostguard import config

    package = Path(config.__file__).parent
    named = {
        name
        for path in package.rglob("*.py")
        for name in re.findall(r'"(AICG_[A-Z_]+)"', path.read_text(encoding="utf-8"))
    }
    assert len(named) > 25, "the package was not read"
    said = config.load(dict.fromkeys(sorted(named), "1")).problems
    assert [text for text in said if "is not a setting" in text] == []
