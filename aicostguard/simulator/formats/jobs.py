"""Work that is begun by one request and fetched by others: files and batches, runs of assistants, interactions.

Owns OpenAI's `/files`, `/batches` and `/threads`, and Google's `/interactions`. Work is billed by the answer in which
its usage first shows; a batch, which is done at once, by its file of results, a row an answer.
"""

from __future__ import annotations

import json
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from aicostguard.simulator.call import SSE, Call, Refused, Reply, dumps, sse
from aicostguard.simulator.count import Billed
from aicostguard.simulator.formats import chat, vectors
from aicostguard.usage import Usage

_MISSING = Reply(404, body=b'{"error":{"message":"not found","type":"invalid_request_error","param":null,"code":null}}')
_ENDPOINTS = {"/v1/chat/completions": chat.chat, "/v1/embeddings": vectors.embeddings}


# --- files and batches ------------------------------------------------------------------------------------------
class _File(NamedTuple):
    body: bytes
    #: what is billed when the file is first fetched
    bills: List[Billed]


def upload(call: Call) -> Reply:
    """POST /v1/files: a form."""
    identifier = call.name("file-")
    body = call.file or b""
    call.store.put(identifier, _File(body, []))
    more = {
        "purpose": call.json.get("purpose"),
        "filename": "f.jsonl",
        "created_at": call.created,
        "status": "processed",
    }
    return Reply(body=dumps({"id": identifier, "object": "file", "bytes": len(body), **more}))


def content(call: Call) -> Reply:
    """GET /v1/files/ID/content."""
    identifier = str(call.params.get("id"))
    stored = call.store.get(identifier)
    if not isinstance(stored, _File):
        return _MISSING
    call.store.put(identifier, stored._replace(bills=[]))
    return Reply(content_type="application/octet-stream", body=stored.body, bills=stored.bills)


def batch(call: Call) -> Reply:
    """POST /v1/batches: answered at once, into a file."""
    source, endpoint = call.store.get(str(call.json.get("input_file_id"))), str(call.json.get("endpoint"))
    if not isinstance(source, _File) or endpoint not in _ENDPOINTS:
        raise Refused("a batch needs a file that was uploaded, and an endpoint of %s" % ", ".join(_ENDPOINTS))
    lines: List[bytes] = []
    bills: List[Billed] = []
    for asked in _lines(source.body):
        request = call.request._replace(body=dumps(asked.get("body")))
        reply = _ENDPOINTS[endpoint](Call(request, call.behaviour, {}, "batch", call.store))
        lines.append(
            b'{"id": "batch_req_%d", "custom_id": %s, "response": {"status_code": 200, "request_id": "r", "body": %s}, '
            b'"error": null}\n' % (len(lines), dumps(asked.get("custom_id")), reply.body)
        )
        bills.extend(reply.bills)
    identifier, output = call.name("batch_"), call.name("file-out")
    call.store.put(output, _File(b"".join(lines), bills))
    body = {"id": identifier, "object": "batch", "endpoint": endpoint, "input_file_id": call.json["input_file_id"]}
    body.update(completion_window="24h", created_at=call.created, status="completed", output_file_id=output)
    call.store.put(identifier, body)
    return Reply(body=dumps({**body, "status": "validating", "output_file_id": None}))


def _lines(body: bytes) -> Iterator[Dict[str, Any]]:
    """The requests of a file, one a line. Raises Refused."""
    for line in body.splitlines():
        try:
            asked = json.loads(line)
        except ValueError:
            asked = None
        if not isinstance(asked, dict):
            raise Refused("a line of the file is not a JSON object")
        yield asked


def batch_state(call: Call) -> Reply:
    """GET /v1/batches/ID."""
    stored = call.store.get(str(call.params.get("id")))
    return _MISSING if stored is None else Reply(body=dumps(stored))


# --- work that is polled ----------------------------------------------------------------------------------------
class _Job(NamedTuple):
    body: Dict[str, Any]
    bill: Optional[Billed]
    polls_left: int


def _polled(call: Call, unfinished: Dict[str, Any]) -> Reply:
    identifier = str(call.params.get("id"))
    job = call.store.get(identifier)
    if not isinstance(job, _Job):
        return _MISSING
    if job.bill is not None and job.polls_left > 0:
        call.store.put(identifier, job._replace(polls_left=job.polls_left - 1))
        return Reply(body=dumps({**job.body, **unfinished}))
    call.store.put(identifier, job._replace(bill=None))
    return Reply(body=dumps(job.body), bills=[] if job.bill is None else [job.bill])


def thread(call: Call) -> Reply:
    """POST /v1/threads."""
    return Reply(
        body=dumps({"id": call.name("thread_"), "object": "thread", "created_at": call.created, "metadata": {}})
    )


def run(call: Call) -> Reply:
    """POST /v1/threads/ID/runs and /v1/threads/runs."""
    usage = call.usage(("input_tokens", "output_tokens"))
    told = {"prompt_tokens": usage.input_tokens, "completion_tokens": usage.output_tokens}
    told["total_tokens"] = (usage.input_tokens or 0) + (usage.output_tokens or 0)
    identifier, model = call.name("run_"), call.model("gpt-4o-mini")
    body = {"id": identifier, "object": "thread.run", "created_at": call.created, "status": "completed", "model": model}
    body.update(assistant_id=call.json.get("assistant_id"), thread_id=call.params.get("thread") or call.name("thread_"))
    body.update(instructions="", tools=[], parallel_tool_calls=True, metadata={}, usage=told)
    bill = call.bill(usage, model, call.streamed, response_id=identifier)
    if call.streamed:
        call.store.put(identifier, _Job(body, None, 0))
        return Reply(content_type=SSE, events=_run_events(call, body), bills=[bill])
    call.store.put(identifier, _Job(body, bill, call.behaviour.polls))
    return Reply(body=dumps({**body, "status": "queued", "usage": None}))


def run_state(call: Call) -> Reply:
    """GET /v1/threads/ID/runs/ID."""
    return _polled(call, {"status": "in_progress", "usage": None})


def _run_events(call: Call, body: Dict[str, Any]) -> Iterator[bytes]:
    yield sse({**body, "status": "queued", "usage": None}, "thread.run.created")
    yield sse({**body, "status": "in_progress", "usage": None}, "thread.run.in_progress")
    step = {"id": call.name("step_"), "object": "thread.run.step", "status": "completed", "usage": body["usage"]}
    step.update(created_at=call.created, run_id=body["id"], thread_id=body["thread_id"], type="message_creation")
    step.update(assistant_id=body["assistant_id"], step_details={"type": "message_creation", "message_creation": {}})
    yield sse(step, "thread.run.step.completed")
    yield sse(body, "thread.run.completed")
    yield b"event: done\ndata: [DONE]\n\n"


# --- interactions: https://ai.google.dev/api/interactions-api ---------------------------------------------------
def interaction(call: Call) -> Reply:
    """POST …/interactions, plain, streamed, in the background."""
    usage = call.usage(("input_tokens", "output_tokens"), ("cache_read_input_tokens", "reasoning_output_tokens"))
    agent = call.json.get("agent")
    name = {"agent": agent} if agent else {"model": call.model("gemini-2.5-flash")}
    identifier = call.name("v1_")
    stamp = "2026-01-02T03:04:05Z"
    head = {
        "id": identifier,
        "status": "completed",
        "created": stamp,
        "updated": stamp,
        "object": "interaction",
        **name,
    }
    body = {**head, "usage": _spent(usage), "steps": [_answer(call.text())]}
    bill = call.bill(usage, agent or name["model"], call.streamed, response_id=identifier)
    if call.json.get("background") is True:
        call.store.put(identifier, _Job(body, bill, call.behaviour.polls))
        return Reply(body=dumps({**head, "status": "in_progress"}))
    call.store.put(identifier, _Job(body, None, 0))
    if call.streamed:
        return Reply(content_type=SSE, events=_interaction_events(call, head, _spent(usage)), bills=[bill])
    return Reply(body=dumps(body), bills=[bill])


def interaction_state(call: Call) -> Reply:
    """GET …/interactions/ID."""
    return _polled(call, {"status": "in_progress", "usage": None, "steps": []})


def ended(store: Any, identifier: str) -> Tuple[Dict[str, Any], List[Billed]]:
    """An interaction that is completed over a socket: itself, and what is billed now. Empty where there is none."""
    job = store.get(identifier)
    if not isinstance(job, _Job):
        return {}, []
    store.put(identifier, job._replace(bill=None))
    return job.body, [] if job.bill is None else [job.bill._replace(streamed=True)]


def _answer(text: str) -> Dict[str, Any]:
    return {"type": "model_output", "content": [{"type": "text", "text": text}]}


def _spent(usage: Usage) -> Dict[str, Any]:
    into, out, thoughts = usage.input_tokens or 0, usage.output_tokens or 0, usage.reasoning_output_tokens or 0
    return {
        "total_tokens": into + out,
        "total_input_tokens": into,
        "input_tokens_by_modality": [{"modality": "text", "tokens": into}],
        "total_cached_tokens": usage.cache_read_input_tokens or 0,
        "total_output_tokens": out - thoughts,
        "total_tool_use_tokens": 0,
        "total_thought_tokens": thoughts,
    }


def _interaction_events(call: Call, head: Dict[str, Any], spent: Dict[str, Any]) -> Iterator[bytes]:
    def event(kind: str, **more: Any) -> bytes:
        return sse({**more, "event_type": kind}, kind)

    begun = {**head, "status": "in_progress"}
    yield event("interaction.created", interaction=begun)
    yield event("interaction.status_update", interaction_id=head["id"], status="in_progress")
    yield event("step.start", index=0, step={"type": "model_output", "content": []})
    for piece in call.pieces():
        yield event("step.delta", index=0, delta={"type": "text", "text": piece})
    yield event("step.stop", index=0)
    yield event("interaction.completed", interaction={**head, "usage": spent})
    yield b"event: done\ndata: [DONE]\n\n"
