"""The feature is the user's own function, found without keeping a frame."""

from __future__ import annotations

import asyncio
import functools
import gc
import json
import sys
import threading
import weakref
from typing import Any, Callable, Iterator, List, Optional

import pytest

from aicostguard.capture import caller

RULE = caller.Rule()


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    caller.forget()
    yield
    caller.forget()


def ask(rule: caller.Rule = RULE) -> Optional[str]:
    """Called like our own code would be: the walk starts above this function."""
    return caller.infer(rule, 2)


@pytest.mark.ids("G06")
def test_the_calling_function_is_the_feature() -> None:
    def summarise() -> Optional[str]:
        return ask()

    assert summarise() == "summarise"


@pytest.mark.ids("G06")
def test_lambdas_and_comprehensions_count_as_their_function() -> None:
    def outer() -> List[Optional[str]]:
        inner = lambda: ask()  # noqa: E731
        return [ask() for _ in range(1)] + [inner()] + [*(ask() for _ in range(1))]

    assert outer() == ["outer"] * 3


def test_module_level_code_is_named_after_its_file() -> None:
    found: List[Optional[str]] = []
    exec(compile("found.append(ask())", "/home/me/project/nightly_job.py", "exec"), {"ask": ask, "found": found})
    exec(compile("found.append(ask())", "<stdin>", "exec"), {"ask": ask, "found": found})
    assert found == ["nightly_job", "stdin"]


def run_as(path: str, module: str, function: Callable[[], Any]) -> Any:
    """Call `function` from a frame that looks as if it stood in another file."""
    space: Any = {"__name__": module, "function": function}
    exec(compile("def helper():\n    return function()\n", path, "exec"), space)
    return space["helper"]()


@pytest.mark.ids("G06")
def test_installed_and_standard_library_frames_are_stepped_over() -> None:
    # `run_as` stands in this file: it is the user's own frame above the pretended library.
    assert run_as("/x/lib/python3/site-packages/openai/_client.py", "openai._client", ask) == "run_as"

    def answer() -> Any:
        return functools.reduce(lambda found, _: ask(), [0, 0]), json.loads("{}", object_hook=lambda _: ask())

    assert answer() == ("answer", "answer")


def test_skip_patterns_step_over_the_users_own_wrappers() -> None:
    found: List[Optional[str]] = []
    skip, keep = caller.Rule(("app.llm.*", __name__)), caller.Rule((__name__,))
    for rule in (skip, keep):
        caller.forget()
        run_as("/app/llm/wrapper.py", "app.llm.wrapper", functools.partial(_note, found, rule))
    assert found == [None, "helper"]


def _note(found: List[Optional[str]], rule: caller.Rule) -> None:
    found.append(caller.infer(rule, 2))


def test_qualified_names_add_the_module() -> None:
    assert run_as("/app/views.py", "app.views", functools.partial(caller.infer, caller.Rule((), True))) == (
        "app.views.helper"
    )


def test_a_task_has_no_caller_beyond_its_loop() -> None:
    async def user() -> Optional[str]:
        return await _sdk_coroutine(ask)  # type: ignore[no-any-return]

    async def main() -> Any:
        lost = asyncio.get_running_loop().create_task(_sdk_coroutine(ask))
        return await user(), await lost

    assert asyncio.run(main()) == ("user", None)


def _sdk_coroutine(function: Callable[[], Any]) -> Any:
    space: Any = {"function": function}
    exec(compile("async def create():\n    return function()\n", "/x/site-packages/sdk.py", "exec"), space)
    return space["create"]()


def test_a_bare_thread_has_no_caller_but_its_target() -> None:
    found: List[Optional[str]] = []

    def worker() -> None:
        found.append(ask())

    thread = threading.Thread(target=worker)
    thread.start()
    thread.join()
    assert found == ["worker"]


@pytest.mark.ids("A19")
def test_the_walk_is_bounded_and_keeps_no_frame() -> None:
    class Marker:
        pass

    def deep(n: int) -> Any:
        if n:
            return run_as("/x/site-packages/deep.py", "deep", lambda: deep(n - 1))
        return ask()

    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 5000))
    try:
        assert deep(3) == "deep"
    finally:
        sys.setrecursionlimit(limit)

    def holds() -> Any:
        marker = Marker()
        ask()
        return weakref.ref(marker)

    gc.disable()
    try:
        assert holds()() is None
    finally:
        gc.enable()


@pytest.mark.ids("A19")
def test_thousands_of_installed_frames_end_the_walk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "MAX_FRAMES", 5)
    steps = {"n": 0}
    real = caller._judge

    def counted(*args: Any) -> int:
        steps["n"] += 1
        real(*args)
        return caller._SKIP

    monkeypatch.setattr(caller, "_judge", counted)

    def nest(n: int) -> Any:
        return run_as("/x/%d.py" % n, "m", (lambda: nest(n - 1)) if n else ask)

    assert nest(30) is None
    assert steps["n"] <= 5


def test_known_files_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caller, "MAX_FILES", 8)
    for n in range(50):
        run_as("/generated/%d.py" % n, "generated", functools.partial(caller.infer, RULE))
    assert len(caller._files) <= 8
