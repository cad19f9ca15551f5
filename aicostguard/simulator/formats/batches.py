"""Anthropic message batches: create, retrieve, results.

The batch is ended at once. Its results are billed when the results file is first fetched, one row each, at the
`batch` tier: before that nobody has seen a usage.
"""

from __future__ import annotations

from typing import Any, Dict, List

from aicostguard.simulator.call import Call, Refused, Reply, Request, dumps
from aicostguard.simulator.count import Billed
from aicostguard.simulator.formats import anthropic

_CREATED = "2026-01-02T03:04:05Z"


def create(call: Call) -> Reply:
    """POST /v1/messages/batches."""
    requests = call.json.get("requests")
    if not isinstance(requests, list) or not requests:
        raise Refused("requests must be a list")
    identifier = call.name("msgbatch_")
    lines: List[bytes] = []
    bills: List[Billed] = []
    for item in requests:
        if not isinstance(item, dict) or not isinstance(item.get("params"), dict):
            raise Refused("each request needs custom_id and params")
        behaviour = call.behaviour._replace(service_tier="batch")
        # each of them is a call of its own, with numbers of its own
        request: Request = call.request._replace(body=dumps(item["params"]))
        inner = Call(request, behaviour, {}, "batches", call.store)
        reply = anthropic.messages(inner)
        lines.append(
            b'{"custom_id":%s,"result":{"type":"succeeded","message":%s}}\n'
            % (dumps(item.get("custom_id")), reply.body)
        )
        bills.extend(reply.bills)
    results = "http://%s/v1/messages/batches/%s/results" % (call.request.headers.get("host", ""), identifier)
    counts = {"processing": 0, "succeeded": len(lines), "errored": 0, "canceled": 0, "expired": 0}
    body: Dict[str, Any] = {
        "id": identifier,
        "type": "message_batch",
        "processing_status": "ended",
        "request_counts": counts,
        "created_at": _CREATED,
        "expires_at": "2026-01-03T03:04:05Z",
        "ended_at": _CREATED,
        "archived_at": None,
        "cancel_initiated_at": None,
        "results_url": results,
    }
    call.store.put(identifier, (body, b"".join(lines), bills))
    counts_before = {**counts, "processing": len(lines), "succeeded": 0}
    begun = {**body, "processing_status": "in_progress", "request_counts": counts_before, "ended_at": None}
    return Reply(body=dumps({**begun, "results_url": None}))


def retrieve(call: Call) -> Reply:
    """GET /v1/messages/batches/ID."""
    stored = call.store.get(str(call.params.get("id")))
    if stored is None:
        return Reply(404, body=b'{"type":"error","error":{"type":"not_found_error","message":"no such batch"}}')
    return Reply(body=dumps(stored[0]))


def results(call: Call) -> Reply:
    """GET /v1/messages/batches/ID/results: JSON lines."""
    identifier = str(call.params.get("id"))
    stored = call.store.get(identifier)
    if stored is None:
        return Reply(404, body=b'{"type":"error","error":{"type":"not_found_error","message":"no such batch"}}')
    body, lines, bills = stored
    call.store.put(identifier, (body, lines, []))
    return Reply(content_type="application/x-jsonl", body=lines, bills=bills)
