"""Replicate: predictions that are ordered, waited for, polled or streamed.

A prediction is billed once: when it is finished in an answer that the client sees. https://replicate.com/docs/topics/predictions
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, Optional

from aicostguard.simulator.call import SSE, Call, Reply, dumps
from aicostguard.usage import Usage


class Prediction:
    """One prediction as the provider remembers it. `polls`: how often it is still running when it is fetched."""

    def __init__(self, call: Call, name: str, model: str, usage: Usage, base: str, polls: int) -> None:
        self.name, self.model, self.usage, self.polls = name, model, usage, polls
        self.text = call.text()
        self.pieces = call.pieces()
        self.billed = False
        self.given = call.json.get("input")
        self.urls = {
            "get": "%s/v1/predictions/%s" % (base, name),
            "cancel": "%s/v1/predictions/%s/cancel" % (base, name),
            "stream": "%s/v1/streams/s-%s" % (base, name),
        }

    def shown(self, status: str) -> Dict[str, Any]:
        """The object in one state."""
        done = status == "succeeded"
        body: Dict[str, Any] = {
            "id": self.name,
            "model": self.model,
            "version": "hidden",
            "input": self.given,
            "logs": "",
            "output": self.text if done else None,
            "error": None,
            "status": status,
            "created_at": "2026-02-12T16:44:47.04927Z",
            "data_removed": False,
            "urls": self.urls,
        }
        if done:
            body["started_at"], body["completed_at"] = "2026-02-12T16:44:47.3Z", "2026-02-12T16:44:50.1Z"
            body["metrics"] = {
                "predict_time": 2.811363,
                "input_token_count": self.usage.input_tokens,
                "output_token_count": self.usage.output_tokens,
            }
        return body


def create(call: Call) -> Reply:
    """POST …/predictions."""
    usage = call.usage(("input_tokens", "output_tokens"))
    name = call.name("")
    base = "http://" + call.request.headers.get("host", "127.0.0.1")
    model = call.params.get("model") or call.behaviour.model or "org/simulated-model"
    prediction = Prediction(call, name, model, usage, base, call.behaviour.polls)
    call.store.put(name, prediction)
    if call.request.headers.get("prefer", "").startswith("wait"):
        prediction.billed = True
        prediction.polls = 0
        bill = call.bill(usage, model, response_id=name)
        return Reply(201, body=dumps(prediction.shown("succeeded")), bills=[bill])
    return Reply(201, body=dumps(prediction.shown("starting")))


def _of(call: Call) -> Optional[Prediction]:
    found = call.store.get((call.params.get("id") or "").removeprefix("s-"))
    return found if isinstance(found, Prediction) else None


def retrieve(call: Call) -> Reply:
    """GET /v1/predictions/ID."""
    prediction = _of(call)
    if prediction is None:
        return Reply(404, body=dumps({"detail": "not found", "status": 404}))
    if prediction.polls > 0:
        prediction.polls -= 1
        return Reply(body=dumps(prediction.shown("processing")))
    bills = [] if prediction.billed else [call.bill(prediction.usage, prediction.model, response_id=prediction.name)]
    prediction.billed = True
    return Reply(body=dumps(prediction.shown("succeeded")), bills=bills)


def stream(call: Call) -> Reply:
    """GET a prediction's stream: text without a word on what it cost."""
    prediction = _of(call)
    if prediction is None:
        return Reply(404, body=dumps({"detail": "not found", "status": 404}))
    bills = [] if prediction.billed else [call.bill(None, prediction.model, True)]
    prediction.billed = True
    prediction.polls = 0

    def events() -> Iterator[bytes]:
        yield b": hi\n\n"
        for number, piece in enumerate(prediction.pieces):
            yield b"event: output\nid: 1:%d\ndata: %s\n\n" % (number, piece.encode())
        yield b"event: done\nid: 1:%d\ndata: {}\n\n" % len(prediction.pieces)

    return Reply(content_type=SSE.partition(";")[0], events=events(), bills=bills)
