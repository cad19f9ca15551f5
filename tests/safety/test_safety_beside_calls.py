"""Nothing of ours that runs beside a call can break it either; and no function of capture is left without its turn.

The same injection as in `test_safety_cannot_break_calls.py`, into the functions that its calls do not run: what hands
labels over to threads and tasks, entries of single SDKs, frameworks, fetched answers, broken ones.
"""

from __future__ import annotations

import re
import sys
from types import CodeType
from typing import Any, Dict, List, Set

import pytest

from aicostguard.capture import once
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.safety import inject
from tests.safety.beside import BESIDE
from tests.safety.inject import Planted
from tests.safety.test_safety_cannot_break_calls import Reference, counted, forget, has_turn, reference

__all__ = ["reference"]

# A planted fault may leave a library's socket to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning", "ignore::DeprecationWarning"
)

#: stand where a library's method stood and only pass on, as in `test_safety_cannot_break_calls.STAND_INS`
STAND_INS = re.compile(
    r"entries/(cohere|ollama)\.py:(_a?(sync_)?(request|stream)(\.\w+)?|_async_\w+(\.\w+)?|Marked\.\w+)"
    r"|frameworks/agents\.py:(plain|coroutine|generator)\.run|frameworks/agents\.py:async_generator\.choose"
    r"|frameworks/places\.py:(plain|coroutine)\.handle"
    r"|handover/thread_pools\.py:(_made\.made|_set_up\.set_up|Queue\.(get|__init__))"
    r"|/baml\.py:_(a?sync|streams|a?done)\.\w+|/agent_framework\.py:(_run\.run|_awaited|<lambda>)"
    r"|/aiohttp_between\.py:Between\.__call__|context\.py:async_generator\.run|context\.py:Scope\.__(enter|exit)__"
)


def fresh() -> None:
    """Nothing remembered between two injections."""
    once.pending.clear()
    once._billed.clear()
    forget()


@pytest.fixture(scope="session")
def beside(providers: Simulator) -> Reference:
    """What each call gives without us, and which functions of ours it runs with us."""
    providers.reset()
    results = {name: ask(providers) for name, ask in BESIDE.items()}
    assert {name: ask(providers) for name, ask in BESIDE.items()} == results, "two runs without us differ"
    agent = Agent(providers)
    agent.on()
    reached: Dict[str, Set[CodeType]] = {}
    for name, ask in BESIDE.items():
        fresh()
        with_us, reached[name] = inject.reached(lambda ask=ask: ask(providers))  # type: ignore[misc]
        assert with_us == results[name]
    agent.off()
    return Reference(results, reached)


@pytest.mark.ids("G16", "A8", "A22")
@pytest.mark.parametrize("name", list(BESIDE))
def test_a_fault_in_any_function_changes_no_result(
    name: str, reference: Reference, beside: Reference, agent: Agent, as_in_production: None
) -> None:
    tried = {code for codes in reference.reached.values() for code in codes}
    functions = inject.functions()
    broken: List[str] = []
    for code in sorted(beside.reached[name] - tried, key=inject.name_of):
        where = inject.name_of(code)
        if not where.startswith(("capture", "context")) or not has_turn(code) or STAND_INS.search(where):
            continue
        fresh()
        with inject.planted(code, functions):
            try:
                result: Any = BESIDE[name](agent.simulator)
            except Exception as error:
                result = repr(error)
        if result != beside.results[name]:
            broken.append("%s: %s" % (where, str(result)[:200]))
        elif Planted.raised and not counted():
            broken.append("%s: not counted" % where)
    assert broken == []


#: functions that no call of these tests runs, and why
ELSEWHERE = {
    "runs when a library is hooked, guarded by `hooks._hook`": re.compile(
        r":install\b|/hooks\.py:|:_(check|owner|streams)\Z|patch\.py:(restore|Hook\.__init__)|_Probe|_Tapper\.__init__"
        r"|/baml\.py:_(collectors|sync|async)\Z|:hook_loop\Z|/httpx2_ws\.py:_a?(send|receive)\Z"
    ),
    "runs when a library is hooked, or in a folder that no call here comes through: tests/capture/test_installed.py": (
        re.compile(r"/installed\.py:|caller\.py:library\Z")
    ),
    "runs where nothing is collected at once, and at the end of the program: tests/capture/test_uncollected.py": (
        re.compile(r"/uncollected\.py:")
    ),
    "more work is pending than is remembered: tests/capture/test_once.py": re.compile(r"/(once|baml)\.py:_let_go\Z"),
    "runs in a child that was forked": re.compile(r"/processes\.py:|/forks\.py:"),
    "made before any call": re.compile(r":(Rule|State)\.__init__|caller\.py:(forget|_qualified)"),
    "has tests of its own, where faults are planted, too": re.compile(
        r"asking\.py:|/(gate|estimating|watchdog)\.py:|:_shown_whole\Z"
    ),
    "runs in the matrix, in an environment of its own": re.compile(
        r"niquests|urllib3_future|frameworks/(celery|openai_agents|langgraph|pydantic_ai|django)\.py:"
    ),
    "runs while a budget is in force: tests/guard/test_gate.py plants faults there": re.compile(
        r"/(permit|exits|cutting)\.py:|aiohttp\.py:(CutDeque|_cut)|_before_sending\Z|claude_agent\.py:_connect|call\.py:Call\.body"
    ),
    "runs by a cache, a cassette or a hook: tests/capture/test_replays.py, test_doubles.py and test_asides.py": (
        re.compile(
            r"/(httpx_around|replays|early)\.py:|call\.py:Call\.unbilled\Z|/requests\.py:_replayed\Z|/urllib3\.py:_recorded\Z"
        )
    ),
    "runs when a fault of ours is counted": re.compile(r"[.:]_?(lost|failed)\Z"),
    "gives a request's body, where the answer names no model": re.compile(r"/(curl_cffi|niquests)\.py:_body\Z"),
    "urllib3 before 1.26.10, which runs in the matrix": re.compile(r"/urllib3\.py:_read\.read\Z"),
}


@pytest.mark.ids("G16", "A8", "A22")
@pytest.mark.skipif(sys.version_info < (3, 11), reason="the main interpreter has every library")
def test_each_function_of_capture_has_its_turn_or_a_reason(reference: Reference, beside: Reference) -> None:
    """Not found by calling, but read from the files: a new function that no call here runs is named."""
    every = {inject.name_of(c) for given in (reference, beside) for codes in given.reached.values() for c in codes}
    left: List[str] = []
    for path in sorted((inject.ROOT / "capture").rglob("*.py")):
        for code in inject.of_file(path):
            name = inject.name_of(code)
            # What makes a replacement is given the original, and runs when a library is hooked.
            if name in every or not has_turn(code) or STAND_INS.search(name) or code.co_varnames[:1] == ("original",):
                continue
            if not any(why.search(name) for why in ELSEWHERE.values()):
                left.append(name)
    assert left == []
