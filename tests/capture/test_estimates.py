"""Where a provider tells no usage: estimated and marked, on a thread of our own, and never where it told something."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional

import pytest

from aicostguard import health as our_health
from aicostguard.capture import estimating
from aicostguard.capture.estimating import Estimates, Kept
from aicostguard.capture.state import state
from aicostguard.health import health
from aicostguard.metering import estimate, text
from aicostguard.simulator import Simulator
from tests.agent import Agent
from tests.capture.tools import CHAT, CLAUDE, GEMINI, HI, both, both_async, fixed, only, shown

pytest.importorskip(estimating.MODULE)

ROOT = Path(__file__).parents[2]
PATH = "/v1/chat/completions"
#: a stream that is still under way when its first piece has been read
LONG = {"chunks": 400, "delay_ms": 5}
WORDS = "The quick brown fox jumps over the lazy dog and looks back. " * 20


class Estimating(Agent):
    """The agent with the extra."""

    def on(self) -> None:
        super().on()
        state.estimates = Estimates()

    def settled(self, count: Optional[int] = None, timeout: float = 5.0) -> List[Dict[str, Any]]:
        assert state.estimates is not None
        state.estimates.flush(timeout)
        return super().settled(count, timeout)


@pytest.fixture
def agent(simulator: Simulator) -> Iterator[Estimating]:
    health.reset()
    agent = Estimating(simulator)
    agent.on()
    yield agent
    agent.off()
    assert health.faults == {}


def openai(agent: Agent, kind: str = "OpenAI") -> Any:
    module = pytest.importorskip("openai")
    return getattr(module, kind)(base_url=agent.url("openai") + "/v1", api_key="x", max_retries=0)


@pytest.mark.ids("B12")
def test_a_stream_without_usage(agent: Agent) -> None:
    """Loud once, counted, estimated and marked; the caller's stream is what it was."""
    agent.simulator.set_default(no_usage=True, text=WORDS, chunks=100)
    both(agent, lambda: shown(list(openai(agent).chat.completions.create(stream=True, **CHAT))))
    receipt = only(agent)
    assert receipt["estimated"] is True and receipt["streamed"] is True
    assert "usage_missing" not in receipt and "partial" not in receipt
    assert receipt["input_tokens"] == 8  # one word, a message and a request: 1 + 4 + 3
    assert 230 < receipt["output_tokens"] < 270  # 240 words, 20 full stops, whose blank is theirs
    assert health.notes["usage_missing"] == 1 and health.notes["estimated"] == 1
    (said,) = (text for name, text in health.warnings.items() if name.startswith("stream-without-usage"))
    assert "its cost is an estimate at best" in said and "not known" not in said


@pytest.mark.ids("B12")
def test_an_async_stream_without_usage(agent: Agent) -> None:
    agent.simulator.set_default(no_usage=True, text=WORDS, chunks=100)

    async def use() -> Any:
        async with openai(agent, "AsyncOpenAI") as client:
            return shown([c async for c in await client.chat.completions.create(stream=True, **CHAT)])

    both_async(agent, use)
    assert 230 < only(agent)["output_tokens"] < 270


def plain_openai(agent: Agent) -> None:
    openai(agent).chat.completions.create(**CHAT)


def plain_anthropic(agent: Agent) -> None:
    module = pytest.importorskip("anthropic")
    client = module.Anthropic(base_url=agent.url("anthropic"), api_key="x", max_retries=0)
    client.messages.create(model=CLAUDE, max_tokens=50, messages=HI)


def plain_gemini(agent: Agent) -> None:
    pytest.importorskip("httpx").post(
        "%s/v1beta/models/%s:generateContent" % (agent.url("google"), GEMINI),
        json={"contents": [{"parts": [{"text": "hi"}]}]},
    )


def plain_responses(agent: Agent) -> None:
    pytest.importorskip("httpx").post(agent.url("openai") + "/v1/responses", json={"model": "gpt-5", "input": "hi"})


@pytest.mark.ids("B12")
@pytest.mark.parametrize("ask", [plain_openai, plain_gemini, plain_responses])
def test_a_whole_response_without_usage(agent: Agent, ask: Callable[[Agent], None]) -> None:
    agent.simulator.set_default(no_usage=True, text=WORDS)
    ask(agent)
    receipt = only(agent)
    assert receipt["estimated"] is True and "usage_missing" not in receipt
    assert 230 < receipt["output_tokens"] < 270 and 1 <= receipt["input_tokens"] < 12


@pytest.mark.ids("B10", "B12")
def test_a_stream_that_is_left(agent: Agent) -> None:
    agent.simulator.set_default(text=WORDS, **LONG)
    client = openai(agent)
    stream = client.chat.completions.create(stream=True, **CHAT)
    for _ in range(30):
        next(stream)
    stream.close()
    receipt = only(agent)
    assert receipt["partial"] is True and receipt["estimated"] is True and "usage_missing" not in receipt
    assert 5 < receipt["output_tokens"] < 60


@pytest.mark.ids("A7", "B10")
def test_a_stream_that_is_cancelled(agent: Agent) -> None:
    """Cancellation comes through at once; the receipt afterwards."""
    agent.simulator.set_default(text=WORDS, **LONG)

    async def run() -> None:
        async with openai(agent, "AsyncOpenAI") as client:

            async def read() -> None:
                async for _ in await client.chat.completions.create(stream=True, **CHAT):
                    started.set()

            started = asyncio.Event()
            task = asyncio.ensure_future(read())
            await started.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())
    receipt = only(agent)
    assert receipt["partial"] is True and receipt["estimated"] is True


@pytest.mark.ids("B10")
@pytest.mark.parametrize("how", [{"reset_after": 3000}, {"cut_after": 3000}], ids=["reset", "cut"])
def test_a_stream_that_breaks(agent: Agent, how: Dict[str, int]) -> None:
    agent.simulator.set_default(text=WORDS, chunks=100, **how)

    def use() -> Any:
        try:
            list(openai(agent).chat.completions.create(stream=True, **CHAT))
        except Exception as error:
            return type(error)
        raise AssertionError("it ended in good order")

    both(agent, use)
    receipt = only(agent)
    assert receipt["partial"] is True and receipt["estimated"] is True and receipt["output_tokens"] > 5


@pytest.mark.ids("B10")
def test_what_anthropic_has_told_is_kept(agent: Agent) -> None:
    """A stream's first event tells the input; the output it names there is only a beginning."""
    module = pytest.importorskip("anthropic")
    agent.simulator.set_default(text=WORDS, usage={"input_tokens": 77, "output_tokens": 900}, **LONG)
    client = module.Anthropic(base_url=agent.url("anthropic"), api_key="x", max_retries=0)
    stream = client.messages.create(model=CLAUDE, max_tokens=50, messages=HI, stream=True)
    for _ in range(40):
        next(stream)
    stream.close()
    receipt = only(agent)
    assert receipt["input_tokens"] == 77 and receipt["partial"] is True and receipt["estimated"] is True
    assert 10 < receipt["output_tokens"] < 120


@pytest.mark.ids("B13")
@pytest.mark.parametrize("streamed", [True, False])
def test_zero_is_an_answer(agent: Agent, streamed: bool) -> None:
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    whole = {
        "id": "x",
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": WORDS}}],
    }
    body = json.dumps({**whole, "usage": usage}).encode()
    if streamed:
        chunk = {"id": "x", "model": "gpt-4o", "choices": [{"index": 0, "delta": {"content": WORDS}}]}
        body = b"data: %s\n\ndata: %s\n\ndata: [DONE]\n\n" % (
            json.dumps(chunk).encode(),
            json.dumps({**chunk, "choices": [], "usage": usage}).encode(),
        )
    agent.simulator.set_default(**fixed(streamed, body=body))
    pytest.importorskip("httpx").post(agent.url("openai") + PATH, json=dict(CHAT, stream=streamed))
    receipt = only(agent)
    assert (receipt["input_tokens"], receipt["output_tokens"]) == (0, 0)
    assert "estimated" not in receipt and "usage_missing" not in receipt


#: members of a request whose size does not stand in it
UNSEEN: Dict[str, Dict[str, Any]] = {
    "image": {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:x"}}]}]},
    "file": {"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
    "search": {"tools": [{"type": "web_search"}]},
    "earlier response": {"previous_response_id": "resp_1"},
}


@pytest.mark.ids("B12")
@pytest.mark.parametrize("what", UNSEEN)
def test_what_cannot_be_known_stays_missing(agent: Agent, what: str) -> None:
    """Half a call would be priced as if it were the whole one."""
    agent.simulator.set_default(no_usage=True)
    pytest.importorskip("httpx").post(agent.url("openai") + PATH, json=dict(CHAT, **UNSEEN[what]))
    receipt = only(agent)
    assert receipt["usage_missing"] is True
    assert not {"estimated", "input_tokens", "output_tokens"} & set(receipt)


@pytest.mark.ids("A18")
def test_never_on_the_callers_thread(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the text nor a token is looked at where the call runs, however long it takes; the loop goes on."""
    seen: List[int] = []
    slow = text.of_response

    def watched(data: bytes) -> Any:
        seen.append(threading.get_ident())
        time.sleep(0.3)
        return slow(data)

    monkeypatch.setattr(text, "of_response", watched)
    agent.simulator.set_default(no_usage=True)
    turns = 0

    async def run() -> None:
        nonlocal turns
        async with openai(agent, "AsyncOpenAI") as client:
            async for _ in await client.chat.completions.create(stream=True, **CHAT):
                pass
            assert agent.receipts == []
            while not agent.receipts:
                turns += 1
                await asyncio.sleep(0.001)

    asyncio.run(run())
    assert seen and threading.get_ident() not in seen
    assert turns > 20


@pytest.mark.ids("A18")
def test_memory_is_bounded(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a stream its beginning; of receipts that wait so many; what comes beyond is delivered as it is."""
    kept = Kept()
    for _ in range(1000):
        kept.add(b"x" * 1000)
    assert kept.size == 1_000_000 and sum(map(len, kept.pieces)) < estimating.KEPT + 1000
    gate = threading.Event()
    monkeypatch.setattr(text, "of_response", lambda data: gate.wait(10) and None)
    agent.simulator.set_default(no_usage=True)
    httpx = pytest.importorskip("httpx")
    over = 6
    with httpx.Client() as client:
        for _ in range(estimating.WAITING + over):
            client.post(agent.url("openai") + PATH, json=CHAT)
    before = len(agent.receipts)
    gate.set()
    assert over - 2 <= before <= over
    assert len(agent.settled(estimating.WAITING + over)) == estimating.WAITING + over
    assert health.notes["not_estimated"] == before


def test_a_long_stream_is_estimated_from_its_beginning(agent: Agent) -> None:
    many = 6
    agent.simulator.set_default(no_usage=True, text=WORDS * many, chunks=240 * many)
    list(openai(agent).chat.completions.create(stream=True, **CHAT))
    assert 230 * many < only(agent)["output_tokens"] < 275 * many


@pytest.mark.ids("A8", "A22")
@pytest.mark.parametrize("where", ["of_response", "of_request"])
def test_a_fault_costs_the_estimate_and_not_the_receipt(
    agent: Agent, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(our_health, "_raise", False)

    def fails(data: bytes) -> Any:
        raise ValueError

    monkeypatch.setattr(text, where, fails)
    agent.simulator.set_default(no_usage=True)
    openai(agent).chat.completions.create(**CHAT)
    receipt = only(agent)
    assert receipt["usage_missing"] is True and "estimated" not in receipt
    assert health.counters["faults"] == 1
    health.reset()


@pytest.mark.parametrize("setting", ["inline", "core"])
def test_where_an_estimate_could_not_be_told_or_waited_for(agent: Agent, setting: str) -> None:
    setattr(state, setting, True)
    agent.simulator.set_default(no_usage=True)
    openai(agent).chat.completions.create(**CHAT)
    assert len(agent.receipts) == 1  # at once
    assert "estimated" not in agent.receipts[0] and "input_tokens" not in agent.receipts[0]


def test_without_the_extra_nothing_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimating, "MODULE", "no_such_module_anywhere")
    assert estimating.make() is None


PROGRAM = """
import os, sys
import aicostguard.auto
import openai, aicostguard
client = openai.OpenAI(base_url=sys.argv[1] + "/v1", api_key="x", max_retries=0)
def ask():
    for chunk in client.chat.completions.create(model="gpt-4o", messages=[], stream=True): pass
ask()
if "flush" in sys.argv:
    assert aicostguard.flush(20)
    ask()
if "fork" in sys.argv:
    assert aicostguard.flush(20)
    ask()
    if os.fork() == 0:
        ask()
        aicostguard.flush(20)
        os._exit(0)
    os.wait()
"""


@pytest.mark.parametrize("how, calls", [("exit", 1), ("flush", 2), ("fork", 3)])
def test_a_program_that_ends_leaves_none_behind(tmp_path: Path, simulator: Simulator, how: str, calls: int) -> None:
    """The real agent, delivering to a file: at exit, at a flush, across a fork, each receipt once."""
    pytest.importorskip("openai")
    import sqlite3

    simulator.set_default(no_usage=True)
    url = "sqlite:///%s" % (tmp_path / "l.db")
    env = {k: v for k, v in os.environ.items() if not k.startswith("AICG_")}
    env.update(AICG_URL=url, AICG_STATE_DIR=str(tmp_path), AICG_HOSTS=simulator.hosts_setting(), PYTHONPATH=str(ROOT))
    command = [sys.executable, "-c", PROGRAM, simulator.urls["openai"], how]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    connection = sqlite3.connect(tmp_path / "l.db")
    rows = [json.loads(row[0]) for row in connection.execute("SELECT envelope FROM inbox")]
    connection.close()
    receipts = [receipt for row in rows for receipt in row["receipts"]]
    assert [receipt.get("estimated") for receipt in receipts] == [True] * calls


# Pure.


@pytest.mark.parametrize(
    "words, tokens",
    [
        ("hello world", 2),
        ("antidisestablishmentarianism", 5),
        ("12345", 2),
        ("", 0),
        ("漢字漢字", 3),
        ("привет", 2),
        ("a\n\nb", 3),
    ],
)
def test_tokens(words: str, tokens: int) -> None:
    from unicodedataplus import script

    assert estimate.written(text.Text([words], [], 1), "gpt-4o", script) == tokens


def test_a_long_text_takes_no_long_time() -> None:
    from unicodedataplus import script

    start = time.perf_counter()
    many = estimate.written(text.Text(["word " * 2_000_000], [], 1), "gpt-4o", script)
    assert many == 2_000_000
    assert time.perf_counter() - start < 5


@pytest.mark.ids("B12")
def test_how_far_off_on_recorded_answers(corpus: Path) -> None:
    """The errors that docs/metering.md names hold: median of what is off, for visible output, by family."""
    import base64
    import gzip
    import statistics

    from unicodedataplus import script

    off: Dict[str, List[float]] = {}
    with gzip.open(corpus / "dev.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]
    for row in rows:
        told = row["truth"]
        output = (told.get("total_output") or 0) - (told.get("reasoning_tokens") or 0)
        if not told.get("billable") or row.get("dup_of") or row["is_eventstream"] or output <= 0:
            continue
        model = str(told.get("model"))
        found = text.of_response(base64.b64decode(row["response_body_base64"]))
        if found is not None and told.get("flavour") not in ("embeddings", "images", "rerank", "audio", "moderations"):
            name = next((n for n in ("claude", "gemini", "mistral", "llama", "gpt") if n in model.lower()), "other")
            off.setdefault(name, []).append(abs(estimate.written(found, model, script) - output) / output)
    medians = {name: statistics.median(values) for name, values in off.items()}
    assert set(medians) >= {"claude", "gemini", "mistral", "llama", "gpt"}
    assert max(medians.values()) < 0.15, medians
