"""Smaller formats: text-generation-inference, watsonx, DashScope, Voyage's and others' rerank.

The provider's definition is named at each function.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator

from aicostguard.simulator.call import SSE, Call, Reply, dumps, sse
from aicostguard.simulator.formats.vectors import floats


def tgi(call: Call) -> Reply:
    """POST /, /models/ORGANISATION/NAME, /generate, and /generate_stream, which always streams.

    https://huggingface.github.io/text-generation-inference/
    """
    usage = call.usage(("output_tokens",))
    streamed = call.streamed or call.request.path.endswith("/generate_stream")
    asked = call.json.get("parameters")
    told = isinstance(asked, dict) and asked.get("details") is True
    bill = call.bill(usage if told or streamed else None, call.params.get("model"), streamed)
    details = {"finish_reason": "length", "generated_tokens": usage.output_tokens, "seed": None}
    if streamed:

        def events() -> Iterator[bytes]:
            pieces = call.pieces()
            for number, piece in enumerate(pieces):
                last = number == len(pieces) - 1
                token = {"id": number, "text": piece, "logprob": -0.1, "special": False}
                row = {"index": number + 1, "token": token, "generated_text": call.text() if last else None}
                yield sse({**row, "details": details if last else None})

        return Reply(content_type=SSE, events=events(), bills=[bill])
    row = {"generated_text": call.text()}
    if told:
        row["details"] = {**details, "prefill": [], "tokens": []}  # type: ignore[assignment]
    return Reply(body=dumps([row]), bills=[bill])


def features(call: Call) -> Reply:
    """POST …/pipeline/feature-extraction, bare vectors: https://huggingface.co/docs/inference-providers/tasks/feature-extraction"""
    return Reply(body=dumps([floats(256, 0)]), bills=[call.bill(None, call.params.get("model"))])


def watsonx(call: Call) -> Reply:
    """POST /ml/v1/text/generation and its stream: https://cloud.ibm.com/apidocs/watsonx-ai#text-generation"""
    usage = call.usage(("input_tokens", "output_tokens"))
    model = call.params.get("model") or call.json.get("model_id") or "ibm/simulated"
    streamed = bool(call.params.get("stream"))
    bill = call.bill(usage, model, streamed)

    def body(text: str, made: int, given: int, reason: str) -> Dict[str, Any]:
        result = {"generated_text": text, "generated_token_count": made, "input_token_count": given}
        return {
            "model_id": model,
            "created_at": "2026-02-28T08:16:49.731Z",
            "results": [{**result, "stop_reason": reason}],
        }

    given, made = usage.input_tokens or 0, usage.output_tokens or 0
    if not streamed:
        return Reply(body=dumps(body(call.text(), made, given, "eos_token")), bills=[bill])

    def events() -> Iterator[bytes]:
        pieces = call.pieces()
        yield b"id: 1\nevent: message\ndata: " + dumps(body("", 0, given, "not_finished")) + b"\n\n"
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            row = body(piece, made if last else min(number, made), 0, "eos_token" if last else "not_finished")
            yield b"id: %d\nevent: message\ndata: " % (number + 2) + dumps(row) + b"\n\n"

    return Reply(content_type=SSE, events=events(), bills=[bill])


def dashscope(call: Call) -> Reply:
    """POST …/services/aigc/…-generation/generation: https://www.alibabacloud.com/help/en/model-studio/qwen-api-via-dashscope

    The header `X-DashScope-SSE` asks for a stream; `incremental_output` for pieces instead of the text so far.
    """
    usage = call.usage(("input_tokens", "output_tokens"), ("cache_read_input_tokens",))
    streamed = call.request.headers.get("x-dashscope-sse") == "enable"
    model, name = call.model(), call.name("")
    bill = call.bill(usage, model, streamed, response_id=name)
    asked = call.json.get("parameters")
    asked = asked if isinstance(asked, dict) else {}

    def body(text: str, made: int, reason: str) -> Dict[str, Any]:
        if asked.get("result_format") == "message" or "multimodal" in call.request.path:
            content: Any = [{"text": text}] if "multimodal" in call.request.path else text
            output: Dict[str, Any] = {
                "choices": [{"finish_reason": reason, "message": {"role": "assistant", "content": content}}]
            }
        else:
            output = {"text": text, "finish_reason": reason}
        counted: Dict[str, Any] = {"input_tokens": usage.input_tokens, "output_tokens": made}
        counted["total_tokens"] = (usage.input_tokens or 0) + made
        if usage.cache_read_input_tokens:
            counted["prompt_tokens_details"] = {"cached_tokens": usage.cache_read_input_tokens}
        return {"output": output, "usage": counted, "request_id": name}

    made = usage.output_tokens or 0
    if not streamed:
        return Reply(body=dumps(body(call.text(), made, "stop")), bills=[bill])

    def events() -> Iterator[bytes]:
        pieces = call.pieces()
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            text = piece if asked.get("incremental_output") else "".join(pieces[: number + 1])
            row = body(text, made if last else min(number + 1, made), "stop" if last else "null")
            yield b"id:%d\nevent:result\n:HTTP_STATUS/200\ndata:" % (number + 1) + dumps(row) + b"\n\n"

    return Reply(content_type=SSE, events=events(), bills=[bill])


def writer(call: Call) -> Reply:
    """POST /v1/completions of Writer, which never counts: https://dev.writer.com/api-reference/completion-api"""
    bill = call.bill(None, call.model(), call.streamed)
    if call.streamed:
        return Reply(content_type=SSE, events=(sse({"value": piece}) for piece in call.pieces()), bills=[bill])
    choices = [{"text": call.text(), "log_probs": None}]
    return Reply(body=dumps({"choices": choices, "model": call.model()}), bills=[bill])


def rerank(call: Call) -> Reply:
    """POST …/rerank, counted in tokens: https://docs.voyageai.com/reference/reranker-api"""
    usage = call.usage(("input_tokens",))
    documents = call.json.get("documents")
    count = len(documents) if isinstance(documents, list) else 1
    rows = [{"index": at, "relevance_score": 1 / (at + 1)} for at in range(count)]
    body = {"object": "list", "data": rows, "model": call.model(), "usage": {"total_tokens": usage.input_tokens}}
    return Reply(body=dumps(body), bills=[call.bill(usage, call.model())])
