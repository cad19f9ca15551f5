"""`flush_on_return`: one invocation, one POST, before the handler returns; counted on the wire."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, AsyncIterator, Callable, Dict, Iterator, List, Tuple

import pytest

import aicostguard
from aicostguard import context
from aicostguard.delivery import Delivery
from aicostguard.delivery.queue import BATCH
from aicostguard.health import health
from tests.delivery.conftest import receipt
from tests.delivery.fake_ledger import Answer, BlackHole, FakeLedger

Deliver = Callable[..., Delivery]

#: what each platform calls its handler with
PLATFORMS: Dict[str, Tuple[Any, ...]] = {
    "lambda": ({"body": "x"}, object()),
    "gcp-request": (object(),),
    "gcp-cloud-event": ({"type": "t", "data": {}},),
    "gcp-background": ({"data": "x"}, object()),
    "azure": (object(),),
    "vercel-wsgi": ({"REQUEST_METHOD": "GET"}, lambda status, headers: None),
}


@pytest.fixture(params=["inline", "background"])
def mode(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _posts(ledger: FakeLedger) -> List[List[str]]:
    """The models of each POST."""
    return [[row["model"] for row in seen.envelope["receipts"]] for seen in ledger.seen if seen.envelope]


@pytest.mark.ids("G14", "G21")
@pytest.mark.parametrize("platform", PLATFORMS)
def test_a_handler_of_every_platform_sends_once_and_before_it_returns(
    deliver: Deliver, mode: str, platform: str
) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE=mode)

        sent: List[int] = []

        @aicostguard.flush_on_return
        def handler(*args: Any) -> Any:
            for n in range(5):
                delivery.submit(receipt("m%d" % n))
            sent.append(len(ledger.seen))
            return args

        given = PLATFORMS[platform]
        assert handler(*given) == given  # what the platform gives reaches the handler as it is
        assert _posts(ledger) == [["m%d" % n for n in range(5)]]
        assert handler(*given) and len(ledger.seen) == 2 and sent == [0, 1]


@pytest.mark.ids("G14", "G15", "G21")
def test_an_async_handler_awaits_its_one_post(deliver: Deliver, mode: str) -> None:
    with FakeLedger(then=Answer(delay=0.3)) as ledger:
        delivery = deliver(ledger.url, MODE=mode)

        @aicostguard.flush_on_return
        async def app(scope: Any, receive: Any, send: Any) -> str:
            await delivery.asubmit([receipt("a"), receipt("b")])
            await asyncio.sleep(0)
            delivery.submit(receipt("c"))
            return "done"

        async def main() -> Tuple[str, int, List[List[str]]]:
            ticks = 0

            async def tick() -> None:
                nonlocal ticks
                while True:
                    await asyncio.sleep(0.01)
                    ticks += 1

            ticker = asyncio.ensure_future(tick())
            result = await app({}, None, None)
            ticker.cancel()
            return result, ticks, _posts(ledger)

        result, ticks, posts = asyncio.run(main())
        assert (result, posts) == ("done", [["a", "b", "c"]])
        assert ticks > 8  # the loop went on meanwhile


@pytest.mark.ids("G16", "G21")
def test_an_exception_comes_out_as_it_was_after_the_post(deliver: Deliver, mode: str) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE=mode)
        error = KeyError("theirs")

        @aicostguard.flush_on_return
        def handler(event: Any, context: Any) -> None:
            delivery.submit(receipt("a"))
            raise error

        @aicostguard.flush_on_return
        async def coroutine(request: Any) -> None:
            delivery.submit(receipt("b"))
            raise error

        with pytest.raises(KeyError) as caught:
            handler({}, None)
        assert caught.value is error and error.__context__ is None
        with pytest.raises(KeyError) as caught:
            asyncio.run(coroutine(None))
        assert caught.value is error and error.__context__ is None
        assert _posts(ledger) == [["a"], ["b"]]


def test_name_signature_and_kind_are_unchanged() -> None:
    def plain(event: Dict[str, Any], context: object = None) -> str:
        """Says."""
        return "x"

    async def coroutine(request: int) -> str:
        return "x"

    def generator(request: int) -> Iterator[int]:
        yield 1

    async def async_generator(request: int) -> AsyncIterator[int]:
        yield 1

    kinds = (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    for function in (plain, coroutine, generator, async_generator):
        made: Any = aicostguard.flush_on_return(function)
        assert made.__name__ == function.__name__ and made.__doc__ == function.__doc__
        assert made.__module__ == __name__ and made.__wrapped__ is function
        assert inspect.signature(made) == inspect.signature(function)
        assert [kind(made) for kind in kinds] == [kind(function) for kind in kinds]


@pytest.mark.ids("G21")
def test_nested_handlers_send_once_at_the_end_of_the_outermost(deliver: Deliver, mode: str) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE=mode)

        @aicostguard.flush_on_return
        def inner(name: str) -> None:
            delivery.submit(receipt(name))

        @aicostguard.flush_on_return
        def stream() -> Iterator[int]:
            delivery.submit(receipt("stream"))
            yield 1

        @aicostguard.flush_on_return
        async def astream() -> AsyncIterator[int]:
            delivery.submit(receipt("astream"))
            yield 1

        @aicostguard.flush_on_return
        async def ainner() -> None:
            inner("b")

        @aicostguard.flush_on_return
        async def outer() -> None:
            inner("a")
            await ainner()
            list(stream())
            [item async for item in astream()]
            assert not ledger.seen

        asyncio.run(outer())
        assert _posts(ledger) == [["a", "b", "stream", "astream"]]


@pytest.mark.ids("G15", "G21")
def test_invocations_at_once_neither_mix_nor_wait_for_each_other(deliver: Deliver, mode: str) -> None:
    with FakeLedger(then=Answer(delay=0.4)) as ledger:
        delivery = deliver(ledger.url, MODE=mode)

        @aicostguard.flush_on_return
        async def handler(name: str, stay: float) -> float:
            began = time.monotonic()
            await delivery.asubmit([receipt(name + "1")])
            await asyncio.sleep(stay)
            await delivery.asubmit([receipt(name + "2")])
            return began

        async def timed(name: str, stay: float) -> float:
            began = await handler(name, stay)
            return time.monotonic() - began

        async def main() -> List[float]:
            return list(await asyncio.gather(timed("slow", 1.5), *(timed("q%d" % n, 0.01) for n in range(5))))

        slow, *quick = asyncio.run(main())
        assert max(quick) < 1.4 < slow
        expected = sorted([["slow1", "slow2"], *(["q%d1" % n, "q%d2" % n] for n in range(5))])
        assert sorted(_posts(ledger)) == expected


@pytest.mark.ids("G21")
def test_a_streamed_response_sends_when_its_stream_ends(deliver: Deliver, mode: str) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE=mode)

        @aicostguard.flush_on_return
        def handler(request: Any) -> Iterator[str]:
            delivery.submit(receipt("a"))
            got = yield "one"
            assert context.held.get() is not None
            delivery.submit(receipt(got or "b"))
            yield "two"

        @aicostguard.flush_on_return
        def wsgi(environ: Any, start_response: Any) -> Iterator[str]:
            def body() -> Iterator[str]:
                delivery.submit(receipt("in-body"))
                yield "x"

            delivery.submit(receipt("in-app"))
            return body()

        steps: Any = handler(None)
        assert next(steps) == "one" and context.held.get() is None and not ledger.seen
        delivery_outside = steps.send("sent")
        assert delivery_outside == "two" and not ledger.seen
        assert next(steps, None) is None
        assert list(wsgi({}, None)) == ["x"]
        left: Any = handler(None)
        next(left)
        left.close()
        with pytest.raises(ValueError, match="theirs"):
            broken: Any = handler(None)
            next(broken)
            broken.throw(ValueError("theirs"))
        assert _posts(ledger) == [["a", "sent"], ["in-app", "in-body"], ["a"], ["a"]]


@pytest.mark.ids("G15", "G21")
def test_an_async_stream_sends_when_its_stream_ends(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE="inline")

        @aicostguard.flush_on_return
        async def handler(request: Any) -> Any:
            await delivery.asubmit([receipt("a")])
            got = yield "one"
            await delivery.asubmit([receipt(got or "b")])
            try:
                yield "two"
            except ValueError:
                yield "caught"

        async def main() -> None:
            stream = handler(None)
            assert await stream.asend(None) == "one" and not ledger.seen
            assert await stream.asend("sent") == "two"
            assert await stream.athrow(ValueError()) == "caught"
            assert context.held.get() is None
            with pytest.raises(StopAsyncIteration):
                await stream.__anext__()
            assert _posts(ledger) == [["a", "sent"]]
            left = handler(None)
            await left.__anext__()
            await left.aclose()

        asyncio.run(main())
        assert delivery.flush(3) and _posts(ledger) == [["a", "sent"], ["a"]]


@pytest.mark.ids("A7", "G15")
def test_a_cancelled_handler_is_cancelled_at_once_and_loses_nothing(deliver: Deliver, mode: str) -> None:
    with FakeLedger(then=Answer(delay=0.5)) as ledger:
        delivery = deliver(ledger.url, MODE=mode)

        @aicostguard.flush_on_return
        async def handler() -> None:
            delivery.submit(receipt("a"))
            await asyncio.sleep(30)

        async def main() -> float:
            task = asyncio.ensure_future(handler())
            await asyncio.sleep(0.05)
            began = time.monotonic()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            return time.monotonic() - began

        assert asyncio.run(main()) < 0.4
        assert delivery.flush(5) and ledger.models() == ["a"]


@pytest.mark.ids("G16", "G21")
def test_a_ledger_that_hangs_holds_the_handler_no_longer_than_was_said(deliver: Deliver, mode: str) -> None:
    with BlackHole() as hole:
        delivery = deliver(hole.url, MODE=mode)

        @aicostguard.flush_on_return(timeout=0.5)
        def handler() -> str:
            delivery.submit(receipt("a"))
            return "done"

        @aicostguard.flush_on_return(timeout=0.5)
        async def coroutine() -> str:
            delivery.submit(receipt("b"))
            return "done"

        began = time.monotonic()
        assert handler() == "done"
        assert 0.4 < time.monotonic() - began < 2.0
        delivery._courier.link.opens_at = 0.0
        began = time.monotonic()
        assert asyncio.run(coroutine()) == "done"
        assert time.monotonic() - began < 2.0
        assert health.counters["dropped"] == 0


@pytest.mark.ids("G21")
def test_work_that_outlives_its_invocation_is_delivered_by_itself(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE="inline")
        went_on = threading.Event()
        threads: List[threading.Thread] = []

        @aicostguard.flush_on_return
        def handler() -> None:
            delivery.submit(receipt("in-time"))
            mine = context.marks()

            def later() -> None:
                context.put(mine)
                went_on.wait(5)
                delivery.submit(receipt("late"))

            threads.append(threading.Thread(target=later))
            threads[0].start()

        handler()
        assert _posts(ledger) == [["in-time"]]
        went_on.set()
        threads[0].join()
        assert _posts(ledger) == [["in-time"], ["late"]]


@pytest.mark.ids("G21")
def test_receipts_of_its_threads_go_along(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE="inline")

        @aicostguard.flush_on_return
        def handler() -> None:
            mine = context.marks()

            def work(name: str) -> None:
                context.put(mine)  # what the hooks of thread pools do
                delivery.submit(receipt(name))

            with ThreadPoolExecutor(4) as pool:
                list(pool.map(work, ["t%d" % n for n in range(20)]))

        handler()
        assert len(ledger.seen) == 1 and len(ledger.stored) == 20


def test_a_flush_inside_takes_along_what_is_held(deliver: Deliver, mode: str) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE=mode)

        @aicostguard.flush_on_return
        def handler() -> None:
            delivery.submit(receipt("a"))
            assert delivery.flush(5) and ledger.models() == ["a"]
            delivery.submit(receipt("b"))

        handler()
        assert _posts(ledger) == [["a"], ["b"]] and not delivery.holding


def test_a_handler_that_never_returns_holds_no_more_than_a_batch(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE="inline")

        @aicostguard.flush_on_return
        def handler() -> None:
            for n in range(BATCH + 10):
                delivery.submit(receipt("m%d" % n))
            assert [len(models) for models in _posts(ledger)] == [BATCH]

        handler()
        assert len(ledger.stored) == BATCH + 10 and len(ledger.seen) == 2


def test_without_a_destination_and_without_receipts_nothing_happens(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        deliver(ledger.url, MODE="inline")

        @aicostguard.flush_on_return
        def handler(event: Any, context: Any) -> Any:
            return event

        assert handler("event", None) == "event" and not ledger.seen


def test_objects_methods_and_partials_can_be_decorated(deliver: Deliver) -> None:
    with FakeLedger() as ledger:
        delivery = deliver(ledger.url, MODE="inline")

        class App:
            secret = "x"

            async def __call__(self, name: str) -> str:
                delivery.submit(receipt(name))
                return name

            @aicostguard.flush_on_return
            def do_GET(self) -> str:
                delivery.submit(receipt("method"))
                return self.secret

            @aicostguard.flush_on_return
            @staticmethod
            def static() -> None:
                delivery.submit(receipt("static"))

        app: Any = aicostguard.flush_on_return(App())
        assert inspect.iscoroutinefunction(app) and app.__name__ == "App"
        assert asyncio.run(app("object")) == "object"
        partial: Any = aicostguard.flush_on_return(functools.partial(App(), "partial"))
        assert asyncio.run(partial()) == "partial"
        assert App().do_GET() == "x"
        App.static()
        assert _posts(ledger) == [["object"], ["partial"], ["method"], ["static"]]


@pytest.mark.parametrize(
    ("what", "more", "error"),
    [
        (type("Handler", (), {}), {}, TypeError),
        ("text", {}, TypeError),
        (len, {"timeout": 0}, ValueError),
        (len, {"timeout": 61}, ValueError),
        (len, {"timeout": "5"}, TypeError),
        (len, {"timeout": True}, TypeError),
    ],
)
def test_what_cannot_be_decorated_is_said_at_once(what: Any, more: Dict[str, Any], error: Any) -> None:
    with pytest.raises(error, match=r"timeout|decorates"):
        aicostguard.flush_on_return(what, **more)
