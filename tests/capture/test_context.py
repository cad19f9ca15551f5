"""Labels follow the code they were set around, into tasks and generators, and never leak out of it."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import enum
import functools
import gc
import inspect
import threading
from typing import Any, AsyncIterator, Dict, Iterator, List

import pytest

from aicostguard import context


def seen() -> Dict[str, Any]:
    return dict(context.current())


def test_nothing_is_in_force_by_default() -> None:
    assert seen() == {}


def test_inner_scopes_add_and_override() -> None:
    with context.labels(user="u1", team="blue", tags={"tier": "gold"}):
        with context.feature("outer"), context.labels(user="u2", tags={"customer": "acme"}):
            assert seen() == {
                "user": "u2",
                "team": "blue",
                "feature": "outer",
                "tags": {"tier": "gold", "customer": "acme"},
            }
        assert seen() == {"user": "u1", "team": "blue", "tags": {"tier": "gold"}}
    assert seen() == {}


def test_members_of_enumerations_are_what_they_hold() -> None:
    class Team(str, enum.Enum):
        SEARCH = "search"

    class Number(enum.IntEnum):
        ONE = 1

    with context.feature(Team.SEARCH), context.labels(user=Number.ONE, tags={"team": Team.SEARCH}):  # type: ignore[arg-type]
        found = seen()
    assert found == {"feature": "search", "user": "1", "tags": {"team": "search"}}
    assert {type(text) for text in (found["feature"], found["user"], found["tags"]["team"])} == {str}


def test_an_agent_inside_an_agent_has_a_parent() -> None:
    with context.agent("planner"):
        assert seen() == {"agent": "planner"}
        with context.agent("researcher"):
            assert seen() == {"agent": "researcher", "parent_agent": "planner"}
            with context.agent("critic", parent="editor"):
                assert seen() == {"agent": "critic", "parent_agent": "editor"}
        assert seen() == {"agent": "planner"}


def test_decorated_functions_keep_their_kind() -> None:
    @context.feature("plain")
    def plain(x: int) -> Any:
        """Doc."""
        return x, seen()

    @context.feature("coroutine")
    async def coroutine() -> Any:
        await asyncio.sleep(0)
        return seen()

    assert plain(3) == (3, {"feature": "plain"})
    assert (plain.__name__, plain.__doc__) == ("plain", "Doc.")
    assert inspect.iscoroutinefunction(coroutine)
    assert asyncio.run(coroutine()) == {"feature": "coroutine"}
    assert seen() == {}


class _Called:
    """An object that is called; `work` is how."""

    def __init__(self, name: str) -> None:
        self.name = name

    async def __call__(self) -> Any:
        await asyncio.sleep(0)
        return seen()

    async def steps(self) -> Any:
        yield seen()

    def pieces(self) -> Iterator[Any]:
        yield seen()


class _Inheriting(_Called):
    """What it is called by stands in the class above."""


def _logged(function: Any) -> Any:
    """A decorator as people write them: a plain function, whatever it stands around."""

    @functools.wraps(function)
    def logged(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return logged


@pytest.mark.ids("A23", "G06")
def test_what_stands_for_a_coroutine_function_or_a_generator_function_has_its_labels() -> None:
    """Objects that are called, partials, methods, and functions with somebody's decorator around them."""
    label, of = context.feature("x"), _Inheriting("a")
    wanted = {"feature": "x"}

    async def every(steps: Any) -> List[Any]:
        return [each async for each in steps]

    for called in (label(of), label(functools.partial(of.__call__)), label(of.__call__), label(_logged(of.__call__))):
        assert asyncio.run(called()) == wanted
    assert asyncio.run(label(lambda: of())()) == wanted
    for stepped in (label(of.steps), label(functools.partial(of.steps)), label(_logged(of.steps))):
        assert asyncio.run(every(stepped())) == [wanted]
    for made in (label(of.pieces), label(functools.partial(of.pieces)), label(_logged(of.pieces))):
        assert list(made()) == [wanted]
    assert label(_logged(of.pieces))().__name__ == "pieces"
    assert not hasattr(label(of), "name")
    assert seen() == {}


def test_a_generator_that_others_read_on_is_given_back_as_it_is() -> None:
    kept = iter(_Called("a").pieces())
    assert context.feature("x")(lambda: kept)() is kept

    @context.feature("x")
    @contextlib.contextmanager
    def managed() -> Iterator[Any]:
        yield seen()

    with managed() as inside:
        assert inside == {}


def test_methods_are_labelled_on_either_side_of_their_kind_and_a_class_is_refused() -> None:
    class Service:
        @context.feature("class")
        @classmethod
        def of_class(cls) -> Any:
            return cls, seen()

        @context.feature("static")
        @staticmethod
        def static() -> Any:
            return seen()

    assert Service.of_class() == (Service, {"feature": "class"})
    assert Service().static() == {"feature": "static"}
    for wrong in (Service, 3):
        with pytest.raises(TypeError, match="decorate its methods"):
            context.feature("x")(wrong)  # type: ignore[type-var]


@pytest.mark.ids("A23", "G06")
def test_a_generators_labels_do_not_leak_into_its_consumer() -> None:
    log: List[Any] = []

    @context.feature("stream")
    def numbers() -> Iterator[int]:
        try:
            for n in range(3):
                log.append(seen())
                got = yield n
                log.append(got)
        finally:
            log.append(seen())

    generator = numbers()
    assert next(generator) == 0
    assert seen() == {}
    assert generator.send("hello") == 1
    assert seen() == {}
    generator.close()
    assert log == [{"feature": "stream"}, "hello", {"feature": "stream"}, {"feature": "stream"}]


@pytest.mark.ids("A23")
def test_a_generator_returns_throws_and_delegates_as_undecorated() -> None:
    @context.feature("x")
    def inner() -> Any:
        try:
            yield 1
        except KeyError:
            yield 2
        return "result"

    def outer() -> Any:
        return (yield from inner())

    generator = outer()
    assert next(generator) == 1
    assert generator.throw(KeyError("k")) == 2
    with pytest.raises(StopIteration) as stop:
        next(generator)
    assert stop.value.value == "result"

    broken = outer()
    next(broken)
    with pytest.raises(ValueError, match="out"):
        broken.throw(ValueError("out"))


@pytest.mark.ids("A23", "G06")
def test_an_async_generators_labels_do_not_leak_into_its_consumer() -> None:
    log: List[Any] = []

    @context.feature("astream")
    async def numbers() -> AsyncIterator[int]:
        try:
            for n in range(3):
                log.append(seen())
                yield n
                await asyncio.sleep(0)
        finally:
            log.append("closed %s" % seen())

    async def consume() -> None:
        async for n in numbers():
            assert seen() == {}
            if n == 1:
                break
        gc.collect()
        await asyncio.sleep(0.01)

    async def all_of_it() -> List[int]:
        return [n async for n in numbers()]

    asyncio.run(consume())
    assert log == [{"feature": "astream"}] * 2 + ["closed {'feature': 'astream'}"]
    assert asyncio.run(all_of_it()) == [0, 1, 2]


@pytest.mark.ids("A11")
def test_leaving_in_another_context_changes_nothing_there() -> None:
    scope = context.feature("entered elsewhere")
    contextvars.copy_context().run(scope.__enter__)
    with context.feature("mine"):
        scope.__exit__(None, None, None)
        assert seen() == {"feature": "mine"}
    assert seen() == {}


@pytest.mark.ids("A11")
def test_an_async_generator_closed_by_another_task_leaves_no_trace(caplog: pytest.LogCaptureFixture) -> None:
    async def numbers() -> AsyncIterator[int]:
        with context.feature("inside"):
            yield 1
            yield 2

    async def run() -> None:
        generator = numbers()

        async def start() -> None:
            assert await generator.__anext__() == 1

        await asyncio.create_task(start())
        await asyncio.create_task(generator.aclose())  # type: ignore[attr-defined]
        assert seen() == {}

    asyncio.run(run())
    assert caplog.records == []


def test_scopes_left_out_of_order_do_not_stay() -> None:
    first, second = context.feature("first"), context.labels(user="u")
    first.__enter__()
    second.__enter__()
    first.__exit__()
    assert seen() == {"feature": "first", "user": "u"}
    second.__exit__()
    assert seen() == {}


def test_one_scope_object_serves_many_threads() -> None:
    scope = context.feature("shared")
    barrier = threading.Barrier(8)
    wrong: List[Any] = []

    def work() -> None:
        for _ in range(200):
            with scope:
                if seen() != {"feature": "shared"}:
                    wrong.append(seen())
            if seen() != {}:
                wrong.append(seen())

    def start() -> None:
        barrier.wait()
        work()

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_tasks_inherit_labels() -> None:
    async def run() -> List[Any]:
        async def one() -> Any:
            await asyncio.sleep(0)
            return seen()

        with context.session("s1"):
            return list(await asyncio.gather(one(), one()))

    assert asyncio.run(run()) == [{"session": "s1"}] * 2


@pytest.mark.parametrize("bad", [None, 1.5, True, ["a"], b"bytes"])
def test_a_label_that_is_no_text_is_refused_where_it_is_set(bad: Any) -> None:
    with pytest.raises(TypeError, match="feature must be text, not"):
        context.feature(bad)


def test_numbers_are_taken_as_text() -> None:
    with context.labels(user=42):  # type: ignore[arg-type]
        assert seen() == {"user": "42"}
