"""Work handed to another task or thread: labels arrive, the caller is found, and the program sees nothing of it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextvars
import functools
import gc
import os
import subprocess
import sys
import textwrap
import threading
import time
import traceback
import weakref
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest

import aicostguard
from aicostguard import context
from aicostguard.capture import caller, hooks
from aicostguard.capture.handover import thread_pools
from aicostguard.health import health
from tests.agent import Agent
from tests.capture.tools import CHAT, scrub

openai = pytest.importorskip("openai")
httpx = pytest.importorskip("httpx")


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    caller.forget()
    yield
    caller.forget()


@pytest.fixture
def create(agent: Agent) -> Iterator[Callable[..., Any]]:
    """An SDK's own blocking method, with everything but the call bound to it."""
    with openai.OpenAI(base_url=agent.url("openai") + "/v1", api_key="x", max_retries=0) as client:
        yield functools.partial(client.chat.completions.create, **CHAT)


#: ways to hand an SDK's method to another thread, each from a function of its own
def by_submit(create: Any) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(create).result()


def by_map(create: Any) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        list(pool.map(library["call"], [create]))


def by_context_run(create: Any) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(contextvars.copy_context().run, create).result()


def by_thread(create: Any) -> None:
    thread = threading.Thread(target=create)
    thread.start()
    thread.join()


def by_timer(create: Any) -> None:
    timer = threading.Timer(0.0, create)
    timer.start()
    timer.join()


def by_run_in_executor(create: Any) -> None:
    async def hands_over() -> None:
        await asyncio.get_running_loop().run_in_executor(None, create)

    asyncio.run(hands_over())


def by_to_thread(create: Any) -> None:
    async def hands_over() -> None:
        await asyncio.to_thread(create)

    asyncio.run(hands_over())


def by_anyio(create: Any) -> None:
    import anyio

    async def hands_over() -> None:
        await anyio.to_thread.run_sync(create)

    anyio.run(hands_over)


def by_pool_apply(create: Any) -> None:
    with ThreadPool(1) as pool:
        pool.apply(create)


def by_pool_map(create: Any) -> None:
    with ThreadPool(1) as pool:
        pool.map(library["call"], [create])


def by_pool_imap(create: Any) -> None:
    with ThreadPool(1) as pool:
        list(pool.imap(func=library["call"], iterable=[create]))


THREADS: Dict[Callable[[Any], None], str] = {
    by_submit: "by_submit",
    by_map: "by_map",
    by_context_run: "by_context_run",
    by_thread: "by_thread",
    by_timer: "by_timer",
    by_run_in_executor: "hands_over",
    by_to_thread: "hands_over",
    by_anyio: "hands_over",
    by_pool_apply: "by_pool_apply",
    by_pool_map: "by_pool_map",
    by_pool_imap: "by_pool_imap",
}


@pytest.mark.ids("G06")
@pytest.mark.parametrize("way", THREADS, ids=lambda way: way.__name__)
def test_a_call_in_another_thread_has_its_labels_and_its_caller(agent: Agent, create: Any, way: Any) -> None:
    with aicostguard.labels(user="u-1"), aicostguard.agent("planner"):
        way(create)
    way(create)
    agent.balance()
    labelled, plain = agent.receipts
    assert (labelled["user"], labelled["agent"]) == ("u-1", "planner")
    assert not {"user", "agent"} & set(plain)
    assert [receipt["feature"] for receipt in agent.receipts] == [THREADS[way]] * 2


#: ways to hand an SDK's coroutine to another task; each is called without, and most make a loop for themselves
def by_gather(make: Any) -> None:
    async def hands_over() -> None:
        await asyncio.gather(make(), make())

    asyncio.run(hands_over())


def by_create_task(make: Any) -> None:
    async def hands_over() -> None:
        await asyncio.create_task(make())
        await asyncio.ensure_future(make())

    asyncio.run(hands_over())


def by_wait_for(make: Any) -> None:
    async def hands_over() -> None:
        await asyncio.wait_for(make(), 10)
        await asyncio.shield(make())

    asyncio.run(hands_over())


def by_run(make: Any) -> None:
    asyncio.run(make())
    loop = asyncio.new_event_loop()
    loop.run_until_complete(make())
    loop.close()


def by_run_in_a_pool(make: Any) -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, make()).result()
        pool.submit(lambda: asyncio.run(make())).result()


def by_another_threads_loop(make: Any) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    asyncio.run_coroutine_threadsafe(make(), loop).result()
    library["have_made"](loop, make())  # as a library does it that has a blocking face
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def by_task_group(make: Any) -> None:
    import anyio

    async def hands_over() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(make)
            group.start_soon(make)

    anyio.run(hands_over)


def by_uvloop(make: Any) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def hands_over() -> None:
        await asyncio.gather(make(), make())

    loop = uvloop.new_event_loop()
    loop.run_until_complete(hands_over())
    loop.close()


#: a library's coroutine function: an SDK's coroutine in it stands on no frame of the user's own
library: Dict[str, Any] = {
    "__name__": "library",
    "Future": concurrent.futures.Future,
    "copy_context": contextvars.copy_context,
    "version_info": sys.version_info,
}
exec(
    compile(
        "async def close_after(client, work):\n    async with client:\n        return await work\n"
        "def call(function, *args):\n    return function(*args)\n"
        "def have_made(loop, work):\n"
        "    done, context = Future(), copy_context()\n"
        "    def schedule():\n"
        "        task = loop.create_task(work, **({'context': context} if version_info >= (3, 11) else {}))\n"
        "        task.add_done_callback(lambda task: done.set_result(task.result()))\n"
        "    loop.call_soon_threadsafe(schedule)\n"
        "    return done.result()\n",
        "/x/site-packages/library.py",
        "exec",
    ),
    library,
)

TASKS: Dict[Callable[[Any], None], str] = {
    by_gather: "hands_over",
    by_create_task: "hands_over",
    by_wait_for: "hands_over",
    by_run: "by_run",
    by_run_in_a_pool: "by_run_in_a_pool",
    by_another_threads_loop: "by_another_threads_loop",
    by_task_group: "hands_over",
    by_uvloop: "hands_over",
}


@pytest.mark.ids("G06")
@pytest.mark.parametrize("way", TASKS, ids=lambda way: way.__name__)
def test_an_sdk_coroutine_in_a_task_of_its_own_has_its_labels_and_its_caller(agent: Agent, way: Any) -> None:
    def make() -> Any:
        client = openai.AsyncOpenAI(base_url=agent.url("openai") + "/v1", api_key="x", max_retries=0)
        return library["close_after"](client, client.chat.completions.create(**CHAT))

    with aicostguard.labels(user="u-1"):
        way(make)
    agent.balance()
    assert len(agent.receipts) == 2
    assert [receipt["user"] for receipt in agent.receipts] == ["u-1"] * 2
    assert [receipt["feature"] for receipt in agent.receipts] == [TASKS[way]] * 2


def test_the_nearest_function_goes_first_wherever_it_stands(agent: Agent, create: Any) -> None:
    def works() -> None:
        create()

    async def sleeps_first() -> None:
        await asyncio.sleep(0)
        create()

    async def starts() -> None:
        await asyncio.gather(sleeps_first())

    for way in THREADS:
        way(works)
    asyncio.run(starts())
    assert [receipt["feature"] for receipt in agent.receipts] == ["works"] * len(THREADS) + ["sleeps_first"]


def test_a_pools_thread_does_not_keep_what_it_was_started_under(agent: Agent, create: Any) -> None:
    def first(pool: Any) -> None:
        with aicostguard.labels(user="u-1"):
            pool.submit(create).result()

    def second(pool: Any) -> None:
        pool.submit(create).result()
        pool.submit(library["call"], create).result()
        pool.submit(works).result()

    def works() -> None:
        create()

    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        first(pool)
        second(pool)
    assert [(receipt.get("user"), receipt["feature"]) for receipt in agent.receipts] == [
        ("u-1", "first"),
        (None, "second"),
        (None, "second"),
        (None, "works"),
    ]


@pytest.mark.ids("G06")
def test_a_worker_of_a_thread_pool_keeps_nothing_of_the_work_it_did(agent: Agent, create: Any) -> None:
    """Labels come with each item, with every item of a `map`, and go with it; also when nobody waits for the result."""
    found: List[Any] = []

    def look(_: Any) -> None:
        found.append(dict(context.current()))

    with ThreadPool(1) as pool:
        with aicostguard.labels(user="ada"):
            pool.apply(create)
            later = pool.map_async(look, range(3), chunksize=1)
        with aicostguard.labels(user="bob"):
            pool.apply_async(look, (0,))
        pool.apply(look, (0,))
        assert later.ready()
    assert found == [{"user": "ada"}] * 3 + [{"user": "bob"}, {}]
    assert [receipt.get("user") for receipt in agent.settled(1)] == ["ada"]
    del later
    end = time.monotonic() + 20
    while thread_pools._results and time.monotonic() < end:  # the pool's threads hold them until they end
        gc.collect()
        time.sleep(0.01)
    assert not thread_pools._results


def test_a_librarys_own_thread_serves_whoever_handed_the_work_over_last(agent: Agent, create: Any) -> None:
    """anyio keeps its threads: the second piece of work runs in the thread that the first one started."""
    import anyio

    async def first() -> None:
        await anyio.to_thread.run_sync(create)

    async def second() -> None:
        await anyio.to_thread.run_sync(create)

    async def both() -> None:
        await first()
        await second()

    anyio.run(both)
    assert [receipt["feature"] for receipt in agent.receipts] == ["first", "second"]


@pytest.mark.ids("B1")
def test_a_transport_that_works_in_a_thread_is_still_beneath_its_client(agent: Agent) -> None:
    requests = pytest.importorskip("requests")

    class InThread(httpx.AsyncBaseTransport):  # type: ignore[misc, name-defined]
        async def handle_async_request(self, request: Any) -> Any:
            def send() -> Any:
                with requests.Session() as session:
                    return session.post(str(request.url), data=request.content)

            reply = await asyncio.get_running_loop().run_in_executor(None, send)
            return httpx.Response(
                reply.status_code, headers={"content-type": "application/json"}, content=reply.content
            )

    async def asks() -> None:
        async with httpx.AsyncClient(transport=InThread()) as client:
            await client.post(agent.url("openai") + "/v1/chat/completions", json=CHAT)

    asyncio.run(asks())
    agent.balance()


# What the program sees of all this: nothing.

mine: contextvars.ContextVar[str] = contextvars.ContextVar("mine", default="unset")


def fails() -> None:
    raise KeyError("of the user")


def what_is_seen() -> List[Any]:
    """Everything a program can look at around handing work over."""
    seen: List[Any] = []
    mine.set("set")
    function = functools.partial(fails)

    def told(error: BaseException) -> str:
        return scrub("".join(traceback.format_exception(type(error), error, error.__traceback__)))

    class Own(concurrent.futures.ThreadPoolExecutor):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            seen.append(fn is function)
            return super().submit(fn, *args, **kwargs)

    with Own(1, thread_name_prefix="worker") as pool:
        future = pool.submit(function)
        seen += [type(future), told(future.exception())]  # type: ignore[arg-type]
        made: Any = concurrent.futures.thread._WorkItem  # type: ignore[attr-defined]
        task: Any = (function, (), {})
        item = made(concurrent.futures.Future(), *([task] if sys.version_info >= (3, 14) else task))
        seen.append(task == (item.task if hasattr(item, "task") else (item.fn, item.args, item.kwargs)))
        seen += pool.map(lambda name: (name, threading.current_thread().name, mine.get()), ["a", "b"])
        blocker = threading.Event()
        pool.submit(blocker.wait)
        cancelled = pool.submit(fails)
        seen += [cancelled.cancel(), cancelled.cancelled()]
        blocker.set()
    try:
        pool.submit(print)
    except RuntimeError as error:
        seen.append(str(error))

    with ThreadPool(1) as threads:
        function_and_parcel = {"function": 1, "parcel": 2}
        seen += [threads.apply(dict, (), function_and_parcel), threads.map(abs, [-1, 2], chunksize=2)]
        seen += [threads.starmap(max, [(1, 2)]), list(threads.imap_unordered(mine.get, ["x"]))]
        outcome = threads.apply_async(
            function, callback=seen.append, error_callback=lambda error: seen.append(told(error))
        )
        outcome.wait()
        try:
            threads.apply_async(5).get()  # type: ignore[call-overload]
        except TypeError as error:
            seen.append(str(error))

    caught: List[Any] = []
    thread = threading.Thread(target=library["call"], args=(fails,), name="named")
    before, threading.excepthook = threading.excepthook, lambda args: caught.append(told(args.exc_value))  # type: ignore[arg-type, return-value]
    thread.start()
    thread.join()
    threading.excepthook = before
    seen += [caught, thread.name, sorted(vars(thread))]

    class Mine(threading.Thread):
        def run(self) -> None:
            seen.append(mine.get())

    thread = Mine()
    thread.start()
    thread.join()
    try:
        thread.start()
    except RuntimeError as error:
        seen += [str(error), sorted(vars(thread))]

    async def tasks() -> None:
        loop = asyncio.get_running_loop()
        loop.set_debug(True)
        task = loop.create_task(library["close_after"](Closes(), fails_later()), name="task")
        seen.extend([type(task), task.get_name(), [(row.filename, row.name) for row in task._source_traceback[-2:]]])  # type: ignore[attr-defined]
        handle = loop.call_soon_threadsafe(library["call"], print)
        seen.append([(row.filename, row.name) for row in handle._source_traceback[-2:]])  # type: ignore[attr-defined]
        handle.cancel()
        seen.append(told((await asyncio.gather(task, return_exceptions=True))[0]))
        seen.append(await asyncio.to_thread(mine.get))
        seen.append(await loop.run_in_executor(None, mine.get))

    asyncio.run(tasks())
    seen.append([asyncio.iscoroutinefunction(f) for f in (asyncio.to_thread, asyncio.BaseEventLoop.create_task)])
    return seen


class Closes:
    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, *exc: object) -> None:
        return None


async def fails_later() -> None:
    await asyncio.sleep(0)
    fails()


if sys.version_info >= (3, 14):

    def test_a_thread_has_the_labels_of_the_context_that_was_chosen_for_it(agent: Agent, create: Any) -> None:
        with aicostguard.labels(user="u-2"):
            chosen = contextvars.copy_context()
        with aicostguard.labels(user="u-1"):
            for given in (chosen, contextvars.Context()):
                thread = threading.Thread(target=create, context=given)
                thread.start()
                thread.join()
        agent.balance()
        assert [receipt.get("user") for receipt in agent.receipts] == ["u-2", None]
        assert [receipt["feature"] for receipt in agent.receipts] == [
            "test_a_thread_has_the_labels_of_the_context_that_was_chosen_for_it"
        ] * 2

    def test_what_belongs_to_a_call_stays_behind_when_threads_copy_their_makers_context(tmp_path: Path) -> None:
        """`-X thread_inherit_context=1`, as in free-threaded builds: a pool's thread serves others than who made it."""
        code = """
        import concurrent.futures, contextvars, threading
        import aicostguard.auto, httpx, aicostguard
        from aicostguard import context

        mine = contextvars.ContextVar("mine", default=None)
        seen = []

        def look():
            seen.append([context.inside.get(), context.current().get("user"), mine.get()])

        mine.set("set")
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            with aicostguard.labels(user="u-1"):
                pool.submit(look).result()
                context.inside.set(True)
                thread = threading.Thread(target=look)
                thread.start()
                thread.join()
                context.inside.set(False)
            pool.submit(look).result()
        print(seen)
        """
        done = subprocess.run(
            [sys.executable, "-X", "thread_inherit_context=1", "-c", textwrap.dedent(code)],
            env={**os.environ, "AICG_URL": "sqlite:///%s/c.db" % tmp_path, "AICG_STATE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=60,
            cwd=Path(__file__).parents[2],
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == str([[False, "u-1", "set"], [False, "u-1", "set"], [False, None, "set"]])


@pytest.mark.ids("A5")
def test_a_program_that_hands_work_over_sees_no_difference(agent: Agent) -> None:
    agent.off()
    off = contextvars.copy_context().run(what_is_seen)
    agent.on()
    with aicostguard.labels(user="u-1"):
        on = contextvars.copy_context().run(what_is_seen)
    assert on == off


def test_only_our_own_variables_go_along(agent: Agent) -> None:
    inside: List[Any] = []

    def names() -> None:
        inside.append({variable.name for variable in contextvars.copy_context()})

    mine.set("set")
    with aicostguard.labels(user="u-1"), concurrent.futures.ThreadPoolExecutor(1) as pool:
        pool.submit(names).result()
        thread = threading.Thread(target=names)
        thread.start()
        thread.join()
    assert all(name.startswith("aicostguard_") for found in inside for name in found)
    assert len(inside) == 2


def test_work_for_other_processes_is_left_alone(agent: Agent) -> None:
    import multiprocessing

    how = multiprocessing.get_context("spawn")
    with aicostguard.labels(user="u-1"), concurrent.futures.ProcessPoolExecutor(1, mp_context=how) as pool:
        assert pool.submit(abs, -3).result() == 3


POOLS_OF_PROCESSES = """
import concurrent.futures, multiprocessing
import aicostguard.auto, httpx, aicostguard
from aicostguard import context

def seen(*_):
    return dict(context.current()), context.place.get(), context.origin.get()

def shows():
    print(seen(), flush=True)

how = multiprocessing.get_context("fork")
context.place.set("/first")
with aicostguard.labels(user="first"):
    one, other = concurrent.futures.ProcessPoolExecutor(1, mp_context=how), how.Pool(1)
    print(one.submit(seen).result(), other.apply(seen), flush=True)
    own = how.Process(target=shows)
    own.start()
    own.join()
with aicostguard.labels(user="second"):
    print(one.submit(seen).result(), other.apply(seen), flush=True)
one.shutdown()
other.close()
other.join()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_workers_of_a_pool_of_processes_have_nobodys_labels(tmp_path: Path) -> None:
    """They are forked by whoever comes first, and serve all who come later."""
    environ = dict(os.environ, AICG_URL="sqlite:///%s/ledger.db" % tmp_path, AICG_STATE_DIR=str(tmp_path / "state"))
    command = [sys.executable, "-W", "ignore", "-c", POOLS_OF_PROCESSES]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    nothing = "({}, None, None) ({}, None, None)"
    assert done.stdout.splitlines() == [nothing, "({'user': 'first'}, '/first', None)", nothing], done.stderr


@pytest.mark.ids("A19")
def test_an_exception_kept_by_a_future_keeps_nothing_else(agent: Agent) -> None:
    class Heavy:
        pass

    def works(heavy: Any) -> None:
        raise KeyError("of the user")

    def round_trip() -> Any:
        heavy = Heavy()
        with aicostguard.labels(user="u-1"), concurrent.futures.ThreadPoolExecutor(1) as pool:
            future = pool.submit(works, heavy)
            concurrent.futures.wait([future])
        return weakref.ref(future)

    gc.collect()
    gc.disable()
    try:
        kept = round_trip()
        assert kept() is None
    finally:
        gc.enable()


@pytest.mark.ids("A8", "A22")
def test_a_fault_of_ours_leaves_the_work_alone(agent: Agent, create: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr(type(health), "fault", lambda self, where, error: faults.append(where))
    faults: List[str] = []
    for name in ("own_function", "own_coroutine"):
        monkeypatch.setattr(caller, name, broken)
    for way in THREADS:
        way(create)
    assert len(agent.simulator.billed()) == len(THREADS)
    assert {"concurrent.futures.thread.pack", "threading.pack", "asyncio.base_events.origin"} <= set(faults)
    monkeypatch.undo()
    agent.settled(len(THREADS))


def test_a_program_without_ai_keeps_its_threads_and_tasks_as_they_were(tmp_path: Path) -> None:
    code = """
        import asyncio, threading, concurrent.futures.thread as pools
        import aicostguard.auto
        def ours(): return [hasattr(f, "__aicostguard__") for f in (threading.Thread.start, pools._WorkItem.run,
            asyncio.BaseEventLoop.create_task, asyncio.BaseEventLoop.call_soon_threadsafe)]
        print(ours())
        import httpx
        print(ours())
        aicostguard.uninstrument()
        print(ours())
    """
    env = {"AICG_URL": "sqlite:///%s/ledger.db" % tmp_path, "AICG_STATE_DIR": str(tmp_path), "PYTHONPATH": "."}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[:3] == [str([False] * 4), str([True] * 4), str([False] * 4)]


def test_a_place_of_handing_over_that_has_changed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    import types

    monkeypatch.setattr(type(health), "fault", lambda self, where, error: None)
    health.reset()
    strange = types.ModuleType("threading")
    hooks._hook_surrounding(hooks.HANDOVERS[0], strange)
    assert hooks.states()["threading"].startswith("failed")
    assert "surrounding:threading" in health.warnings
    hooks._hooks.clear()
    health.reset()
