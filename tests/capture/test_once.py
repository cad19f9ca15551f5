"""Work that is begun by one request and fetched by others: billed once, by whatever answer shows it first."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any, List

import pytest

from aicostguard.capture import once
from tests.agent import Agent
from tests.capture.tools import CLAUDE, HI

openai = pytest.importorskip("openai")
anthropic = pytest.importorskip("anthropic")
genai = pytest.importorskip("google.genai")


@pytest.fixture(autouse=True)
def forgetful() -> Any:
    """Ids of other tests are forgotten."""
    once.pending.clear()
    once._billed.clear()
    yield
    once.pending.clear()
    once._billed.clear()


def claude(agent: Agent) -> Any:
    return anthropic.Anthropic(base_url=agent.url("anthropic"), api_key="x", max_retries=0)


def client_of(agent: Agent, **more: Any) -> Any:
    return openai.OpenAI(base_url=agent.url("openai") + "/v1", api_key="x", max_retries=0, **more)


def batch_of(client: Any, number: int) -> str:
    params: Any = [{"model": CLAUDE, "max_tokens": 50 + i, "messages": HI} for i in range(number)]
    made = client.messages.batches.create(requests=[{"custom_id": str(i), "params": p} for i, p in enumerate(params)])
    return str(made.id)


@pytest.mark.ids("B3")
def test_results_of_a_batch_are_billed_once_and_added_up(agent: Agent) -> None:
    with claude(agent) as client:
        batch = batch_of(client, 40)
        for _ in range(3):
            assert len(list(client.messages.batches.results(batch))) == 40
    agent.balance()
    (receipt,) = agent.receipts
    assert receipt["operation"] == "batch" and receipt["requests_billed"] == 40
    assert "streamed" not in receipt and "partial" not in receipt and "service_tier" not in receipt


@pytest.mark.ids("B3", "B10")
def test_results_that_were_left_are_billed_to_the_end_when_they_are_fetched_again(agent: Agent) -> None:
    agent.simulator.set_default(chunk_size=700)
    with claude(agent) as client:
        batch = batch_of(client, 40)
        results = client.messages.batches.results(batch)
        next(iter(results))
        results.http_response.close()
        first = sum(receipt.get("requests_billed", 1) for receipt in agent.settled(1))
        assert 0 < first < 40
        list(client.messages.batches.results(batch))
        list(client.messages.batches.results(batch))
    assert len(agent.receipts) == 2
    assert sum(receipt.get("requests_billed", 1) for receipt in agent.receipts) == 40
    billed = agent.simulator.billed()
    for name in ("input_tokens", "output_tokens"):
        assert sum(r[name] for r in agent.receipts) == sum(getattr(row.usage, name) for row in billed)


@pytest.mark.ids("B3")
def test_results_that_many_threads_fetch_are_billed_once(agent: Agent) -> None:
    with claude(agent) as client:
        batch = batch_of(client, 5)
        gate = threading.Barrier(6)

        def fetch() -> None:
            gate.wait()
            list(client.messages.batches.results(batch))

        threads = [threading.Thread(target=fetch) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    agent.balance()
    assert len(agent.receipts) == 1


@pytest.mark.ids("B3", "B15")
def test_any_other_file_bills_nothing(agent: Agent) -> None:
    row = {"custom_id": "1", "body": {"model": "m", "usage": {"prompt_tokens": 9, "completion_tokens": 9}}}
    bodies = (
        b"%PDF-1.7\n" + bytes(range(256)) * 99,
        json.dumps(row).encode(),
        b"",
        b"{" * 5000,
        b'{"a": 1}\n{"b": 2}\n',
    )
    with client_of(agent) as client:
        for body in bodies:
            file = client.files.create(file=("f.bin", body), purpose="user_data")
            assert client.files.content(file.id).content == body
    assert agent.receipts == []


@pytest.mark.filterwarnings("ignore:The Assistants API:DeprecationWarning")
@pytest.mark.ids("B3")
def test_a_run_of_an_assistant_is_billed_by_the_poll_that_finds_it_over(agent: Agent) -> None:
    agent.simulator.set_default(polls=3)
    with client_of(agent) as client:
        runs = client.beta.threads.runs
        run = runs.create(thread_id="thread_1", assistant_id="asst_1", model="gpt-4o-mini")
        for poll in range(6):
            run = runs.retrieve(run.id, thread_id="thread_1")
            assert len(agent.receipts) == (poll >= 3)
        with runs.stream(thread_id="thread_1", assistant_id="asst_1", model="gpt-4o-mini") as stream:
            stream.until_done()
            last = stream.current_run
        assert last is not None
        runs.retrieve(last.id, thread_id="thread_1")
    agent.balance()
    assert len(agent.receipts) == 2


@pytest.mark.ids("B3")
def test_work_begun_elsewhere_is_billed_where_it_is_watched(agent: Agent) -> None:
    """Another process began it: who sees it unfinished and then finished bills it, who only fetches it does not."""
    agent.simulator.set_default(polls=2)
    with client_of(agent) as client:
        made = client.responses.create(model="gpt-5", input="hi", background=True)
        once.pending.clear()
        for _ in range(4):
            client.responses.retrieve(made.id)
        agent.balance()
        assert len(agent.receipts) == 1
        stored = client.responses.create(model="gpt-5", input="hi")
        once.pending.clear()
        client.responses.retrieve(stored.id)
    assert len(agent.receipts) == 2


@pytest.mark.ids("B3")
def test_interactions_in_the_background_are_billed_once(agent: Agent) -> None:
    google = genai.Client(api_key="x", http_options={"base_url": agent.url("google")})
    if not hasattr(google, "interactions"):
        pytest.skip("this google-genai has no interactions")
    begun = google.interactions.create(agent="deep-research-pro", input="hi", background=True)
    for _ in range(4):
        google.interactions.get(begun.id)

    async def ask() -> List[Any]:
        stream = await google.aio.interactions.create(model="gemini-2.5-flash", input="hi", stream=True)
        events = [event async for event in stream]
        await google.aio.aclose()
        return events

    assert asyncio.run(ask())
    agent.balance()
    assert [receipt["model"] for receipt in agent.receipts] == ["deep-research-pro", "gemini-2.5-flash"]


def test_what_is_remembered_is_bounded(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(once, "MOST", 5)
    agent.simulator.set_default(polls=9)
    with client_of(agent) as client, claude(agent) as other:
        for _ in range(8):
            client.responses.create(model="gpt-5", input="hi", background=True)
            list(other.messages.batches.results(batch_of(other, 1)))
    assert len(once.pending) == 5 and len(once._billed) == 5
    assert len(agent.settled(8)) == 8


@pytest.mark.ids("B14", "C5")
def test_a_form_with_files_tells_its_model_and_nothing_else(agent: Agent) -> None:
    from aicostguard.capture.forms import form
    from aicostguard.capture.patch import Hook

    picture = ("cat.png", b"\x89PNG" + bytes(range(256)) * 4000, "image/png")
    with client_of(agent) as client:
        client.images.edit(model="gpt-image-1", prompt="the secret prompt", image=picture)
        client.audio.transcriptions.create(model="whisper-1", file=picture)
    agent.balance()
    assert [receipt["model"] for receipt in agent.receipts] == ["gpt-image-1", "whisper-1"]
    fields = [("prompt", "secret"), ("image", object()), ("model", b"gpt-image-1")]
    assert form(fields, Hook("x")) == b'{"model": "gpt-image-1"}'
    assert form([("model", "x" * 300)], Hook("x")) is None


def test_forms_of_requests_and_aiohttp_tell_their_model(agent: Agent) -> None:
    requests = pytest.importorskip("requests")
    aiohttp = pytest.importorskip("aiohttp")
    url = agent.url("openai") + "/v1/audio/transcriptions"
    sound = bytes(range(256)) * 4000
    assert requests.post(url, data={"model": "whisper-1"}, files={"file": ("a.mp3", sound)}).json()["text"]

    async def ask() -> Any:
        data = aiohttp.FormData()
        data.add_field("file", sound, filename="a.mp3")
        data.add_field("model", "whisper-1")
        async with aiohttp.ClientSession() as session, session.post(url, data=data) as response:
            return await response.json()

    assert asyncio.run(ask())["text"]
    agent.balance()
    assert [receipt["model"] for receipt in agent.settled(2)] == ["whisper-1"] * 2


@pytest.mark.ids("B3")
def test_a_run_that_ended_in_a_stream_is_not_billed_by_a_poll(agent: Agent) -> None:
    """It was begun without a stream and waited for a tool; handing in the tool's output streamed it to its end."""
    run = {"id": "run_tool", "object": "thread.run", "status": "requires_action", "model": "gpt-4o-mini", "usage": None}
    spent = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
    done = json.dumps({**run, "status": "completed", "usage": spent}).replace(" ", "")
    stream = "event: thread.run.completed\ndata: %s\n\nevent: done\ndata: [DONE]\n\n" % done
    sse = {"content-type": "text/event-stream"}
    agent.simulator.script([{"body": json.dumps(run)}, {"body": stream, "headers": sse}, {"body": done}])
    with client_of(agent) as client:
        client.post("/threads/t/runs", cast_to=object, body={})
        client.post("/threads/t/runs/run_tool/submit_tool_outputs", cast_to=object, body={"stream": True})
        client.get("/threads/t/runs/run_tool", cast_to=object)
    (receipt,) = agent.settled(1)
    assert (receipt["input_tokens"], receipt["output_tokens"]) == (9, 4)


@pytest.mark.ids("B3", "D11")
@pytest.mark.parametrize("end", ["cancelled", "failed"])
def test_work_that_ended_without_use_is_not_waited_for_any_more(agent: Agent, end: str) -> None:
    """No receipt, nothing remembered that would send each later call the long way, and nothing held of a budget."""
    from aicostguard.guard import enforcing
    from tests.guard.budgets import CENT, cap, gate, standing

    gate(cap(100 * CENT))
    try:
        with client_of(agent) as client:
            agent.simulator.set_default(polls=50)
            made = client.responses.create(model="gpt-5", input="hi", max_output_tokens=50, background=True)
            assert once.pending and standing(timeout=0).reserved > 0
            if end == "cancelled":
                client.responses.cancel(made.id)
            else:
                body = {**made.model_dump(mode="json"), "status": "failed", "error": {"code": "server_error"}}
                agent.simulator.set_default(body=json.dumps(body).encode())
            assert client.responses.retrieve(made.id).status == end
        assert agent.receipts == [] and once.pending == {}
        after = standing()
        assert (after.spent, after.reserved, after.estimated) == (0, 0, 0)
    finally:
        enforcing.stop()


@pytest.mark.ids("B3", "D11", "B13")
def test_work_that_is_deleted_before_it_is_finished_is_billed_as_unknown(agent: Agent) -> None:
    """Nobody can ask any more for what it has cost: one receipt without usage, and all that it held is booked."""
    from aicostguard.guard import enforcing
    from tests.guard.budgets import CENT, cap, gate, standing

    gate(cap(100 * CENT))
    try:
        with client_of(agent) as client:
            agent.simulator.set_default(polls=50)
            made = client.responses.create(model="gpt-5", input="hi", max_output_tokens=50, background=True)
            held = standing(timeout=0).reserved
            assert once.pending and held > 0 and agent.receipts == []
            for _ in range(2):
                client.responses.delete(made.id)
                agent.simulator.set_default(body=b"{}")
            (receipt,) = agent.receipts
            assert receipt["usage_missing"] and receipt["model"] == "gpt-5" and "input_tokens" not in receipt
            assert once.pending == {}
            after = standing()
            assert (after.spent, after.reserved, after.estimated) == (held, 0, 1)
            agent.simulator.set_default()
            done = client.responses.create(model="gpt-5", input="hi", max_output_tokens=50)
            client.responses.delete(done.id)
        assert len(agent.receipts) == 2, "what was billed before is not billed again"
    finally:
        enforcing.stop()


def test_work_under_two_ids_that_is_no_more_remembered_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from aicostguard.health import health
    from aicostguard.usage import Reading

    health.reset()
    monkeypatch.setattr(once, "MOST", 2)
    for name in ("a", "b"):
        once.remember(Reading(None, None, response_id=name, also=name + "s", pending=True))
    assert list(once.pending) == ["b", "bs"]
    assert health.counters["unmetered"] == 1
    health.reset()
