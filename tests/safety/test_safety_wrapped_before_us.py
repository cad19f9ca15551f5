"""Another tool has wrapped what we hook, before us: its wrappers stay in the path, and hear whose methods they are.

`wrapt` is what OpenTelemetry's instrumentations and others' are made of. Its wrapper of a method learns the instance
when it is taken off the class; one that is called as it lies in the class hears of none, and fails on it.
"""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any, Dict, Iterator, List, Tuple

import pytest

from aicostguard.capture import patch
from aicostguard.health import health
from tests.agent import Agent
from tests.safety.calls import CALLS, Clients

wrapt = pytest.importorskip("wrapt")

#: google-auth says of CPython 3.9 that it is old
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

Place = Tuple[Any, str]
#: all but the one that goes on with a session of the time before
ASKED = {name: ask for name, ask in CALLS.items() if name != "claude_agent"}
#: there where a counted number is not 0, or a clock says so
VARIES = {"cache_read_input_tokens", "cache_creation_input_tokens", "reasoning_output_tokens", "ttft_ms"}


class Wrappers:
    """Around every method that is hooked: whose it was, each time."""

    def __init__(self, places: List[Tuple[Any, str, Any]]) -> None:
        self._places = places
        #: what metering tells of all calls without these wrappers
        self.before: Any = None
        self.seen: Dict[Place, int] = {}
        self.nobody: List[str] = []
        for owner, name, original in places:
            setattr(owner, name, wrapt.FunctionWrapper(original, self._wrapper(owner, name, original)))

    def _wrapper(self, owner: Any, name: str, original: Any) -> Any:
        expected = owner if isinstance(owner, type) else None

        def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
            self.seen[owner, name] = self.seen.get((owner, name), 0) + 1
            theirs = instance if isinstance(original, classmethod) else type(instance)
            if expected is not None and not issubclass(theirs, expected):
                self.nobody.append("%s.%s: %r" % (owner.__name__, name, instance))
            return wrapped(*args, **kwargs)

        return wrapper

    def off(self) -> None:
        for owner, name, original in self._places:
            setattr(owner, name, original)


def told(agent: Agent) -> Any:
    """How many receipts there are of each kind, once no more come."""
    count = -1
    while count != len(agent.receipts):
        count = len(agent.receipts)
        agent.settled(count + 1, timeout=2)  # a stream that is left may end late
    return Counter((row["provider"], row["model"], *sorted(set(row) - VARIES)) for row in agent.receipts)


@pytest.fixture
def wrappers(agent: Agent, clients: Clients) -> Iterator[Wrappers]:
    """Metering on, after another tool has wrapped everything."""
    for _ in range(2):  # what is hooked when its first response is seen is hooked then
        agent.receipts.clear()
        for ask in ASKED.values():
            ask(clients)
        before = told(agent)
    places = [(row.owner, row.name, row.original) for row in patch._patches if row.original is not None]
    places = [row for row in places if inspect.isroutine(row[2]) or isinstance(row[2], classmethod)]
    agent.off()
    made = Wrappers(places)
    made.before = before
    agent.receipts.clear()
    agent.simulator.reset_count()
    agent.on()
    yield made
    agent.off()
    made.off()


@pytest.mark.ids("G13")
def test_each_wrapper_hears_whose_method_it_is(wrappers: Wrappers, agent: Agent, clients: Clients) -> None:
    assert len(wrappers._places) > 40
    for name, ask in ASKED.items():
        ask(clients)
        assert not wrappers.nobody, name
    assert told(agent) == wrappers.before
    assert len(wrappers.seen) > 20, wrappers.seen
    assert not health.faults


def test_threads_and_pools_of_a_program_that_is_traced(agent: Agent) -> None:
    """The way of OpenTelemetry's instrumentation of threads, imported before us; Strands Agents switches it on."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    agent.off()
    starts: List[Any] = []

    def start(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        instance._seen = True
        starts.append(instance)
        return wrapped(*args, **kwargs)

    original = threading.Thread.start
    threading.Thread.start = wrapt.FunctionWrapper(original, start)  # type: ignore[method-assign]
    try:
        agent.on()
        assert any(row.owner is threading.Thread and row.name == "start" for row in patch._patches)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(lambda: 1).result() == 1
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        assert thread in starts and len(starts) == 2
    finally:
        agent.off()
        threading.Thread.start = original  # type: ignore[method-assign]


def test_a_class_method_that_is_wrapped_stays_one() -> None:
    class Base:
        @classmethod
        def make(cls, number: int) -> Any:
            return cls.__name__, number

    class Below(Base):
        """Made by the method of its base."""

    found: List[Any] = []

    def wrapper(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        found.append(instance)
        return wrapped(*args, **kwargs)

    Base.make = wrapt.FunctionWrapper(Base.__dict__["make"], wrapper)  # type: ignore[method-assign]
    patch.replace(patch.Hook("test"), Base, "make", lambda original: lambda cls, number: original(cls, number + 1))
    assert Below.make(1) == ("Below", 2)
    assert found == [Below]
    patch.restore()
    assert Below.make(1) == ("Below", 1)
