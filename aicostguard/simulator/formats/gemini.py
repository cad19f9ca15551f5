"""Gemini `generateContent` and embeddings, on Google's AI host and on Vertex.

Owns the `models/MODEL:verb` paths. The prompt count includes cached content; tool-use prompt tokens stand apart
and belong to the input; thoughts stand apart and belong to the output; the total counts all four. Each chunk of a
stream repeats the counts so far. Source: `UsageMetadata` in the Gemini API reference.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, Optional

from aicostguard.simulator.call import SSE, Call, Refused, Reply, dumps, sse
from aicostguard.simulator.formats.vectors import floats
from aicostguard.usage import Usage

_ALWAYS = ("input_tokens", "output_tokens")
_SOMETIMES = (
    "cache_read_input_tokens",
    "reasoning_output_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "input_video_tokens",
    "output_audio_tokens",
    "output_image_tokens",
)


def generate(call: Call) -> Reply:
    """POST …:generateContent and …:streamGenerateContent (server-sent events with `alt=sse`, else a JSON array)."""
    usage = None if call.behaviour.no_usage else call.usage(_ALWAYS, _SOMETIMES)
    if usage is not None and call.behaviour.tool_use_prompt_tokens > (usage.input_tokens or 0):
        raise Refused("tool_use_prompt_tokens exceeds input_tokens")
    call.tool_inputs()  # refused here, and not in the middle of a stream
    model = call.behaviour.model or str(call.params.get("model"))
    streamed = call.params.get("verb") == "streamGenerateContent"
    identifier = call.name("")
    bill = call.bill(usage, model, streamed, response_id=identifier)
    if not streamed:
        return Reply(body=dumps(_response(call, model, identifier, call.text(), usage, True)), bills=[bill])
    chunks = _chunks(call, model, identifier, usage)
    if "alt=sse" in call.request.query:
        # Google separates events by CRLF
        events: Iterator[bytes] = (sse(chunk).replace(b"\n\n", b"\r\n\r\n") for chunk in chunks)
        return Reply(content_type=SSE, events=events, bills=[bill])
    return Reply(content_type="application/json; charset=UTF-8", events=_array(chunks), bills=[bill])


def count_tokens(call: Call) -> Reply:
    """POST …:countTokens: free."""
    return Reply(body=dumps({"totalTokens": 7 + call.seed % 1994}))


def modalities(whole: int, audio: Optional[int], image: Optional[int], video: Optional[int]) -> List[Dict[str, Any]]:
    """Tokens by modality; text is what the others leave."""
    parts = [("AUDIO", audio or 0), ("IMAGE", image or 0), ("VIDEO", video or 0)]
    text = whole - sum(count for _, count in parts)
    return [{"modality": name, "tokenCount": n} for name, n in [("TEXT", text), *parts] if n or name == "TEXT"]


def _metadata(call: Call, usage: Usage, written: Optional[int]) -> Dict[str, Any]:
    """`written`: output tokens so far, None when all of them are."""
    tool_use = call.behaviour.tool_use_prompt_tokens
    prompt = (usage.input_tokens or 0) - tool_use
    thoughts = usage.reasoning_output_tokens
    answer = (usage.output_tokens or 0) - (thoughts or 0)
    if written is not None:
        answer = min(answer, written)
    out: Dict[str, Any] = {"promptTokenCount": prompt}
    if written is None or answer:
        out["candidatesTokenCount"] = answer
    out["totalTokenCount"] = prompt + tool_use + (thoughts or 0) + answer
    out["promptTokensDetails"] = modalities(
        prompt, usage.input_audio_tokens, usage.input_image_tokens, usage.input_video_tokens
    )
    if written is None and (usage.output_audio_tokens is not None or usage.output_image_tokens is not None):
        details = modalities(answer, usage.output_audio_tokens, usage.output_image_tokens, None)
        out["candidatesTokensDetails"] = details
    if usage.cache_read_input_tokens is not None:
        out["cachedContentTokenCount"] = usage.cache_read_input_tokens
        out["cacheTokensDetails"] = modalities(usage.cache_read_input_tokens, None, None, None)
    if tool_use:
        out["toolUsePromptTokenCount"] = tool_use
        out["toolUsePromptTokensDetails"] = modalities(tool_use, None, None, None)
    if thoughts is not None:
        out["thoughtsTokenCount"] = thoughts
    if call.provider == "vertex":
        out["trafficType"] = "ON_DEMAND"
    return out


def _response(
    call: Call, model: str, identifier: str, text: str, usage: Optional[Usage], last: bool, written: int = 0
) -> Dict[str, Any]:
    parts: List[Dict[str, Any]] = [{"text": text}] if text else []
    if last:
        parts += [{"functionCall": {"name": "lookup", "args": value}} for value in call.tool_inputs()]
    candidate: Dict[str, Any] = {"content": {"parts": parts or [{"text": ""}], "role": "model"}, "index": 0}
    if last:
        candidate["finishReason"] = "STOP"
    out: Dict[str, Any] = {"candidates": [candidate]}
    if usage is not None:
        out["usageMetadata"] = _metadata(call, usage, None if last else written)
    out.update(modelVersion=model, responseId=identifier)
    return out


def _chunks(call: Call, model: str, identifier: str, usage: Optional[Usage]) -> Iterator[Dict[str, Any]]:
    pieces = call.pieces()
    for number, piece in enumerate(pieces):
        yield _response(call, model, identifier, piece, usage, number == len(pieces) - 1, number)


def _array(chunks: Iterator[Dict[str, Any]]) -> Iterator[bytes]:
    opening = b"["
    for chunk in chunks:
        yield opening + dumps(chunk)
        opening = b",\r\n"
    yield b"]"


_EMBED = ("input_tokens",)


def embed(call: Call) -> Reply:
    """POST …:embedContent and …:batchEmbedContents. The AI host names no usage unless a behaviour asks for it."""
    batch = call.json.get("requests")
    size = call.json.get("outputDimensionality") or 768
    one = {"values": floats(int(size), 0)}
    body: Dict[str, Any] = {"embedding": one}
    if isinstance(batch, list):
        body = {"embeddings": [{"values": floats(int(size), i)} for i in range(len(batch))]}
    usage = None
    if (call.behaviour.usage or call.provider == "vertex") and not call.behaviour.no_usage:
        usage = call.usage(_EMBED)
        body["usageMetadata"] = {"promptTokenCount": usage.input_tokens, "totalTokenCount": usage.input_tokens}
    model = call.behaviour.model or str(call.params.get("model"))
    return Reply(body=dumps(body), bills=[call.bill(usage, model)])


def predict(call: Call) -> Reply:
    """POST …/publishers/google/models/MODEL:predict: Vertex' text embeddings; tokens stand beside each vector."""
    instances = call.json.get("instances")
    if not isinstance(instances, list) or not instances:
        raise Refused("instances must be a list")
    usage = call.usage(("input_tokens", "characters"))
    texts = [str(item.get("content", "")) if isinstance(item, dict) else "" for item in instances]
    if "characters" not in (call.behaviour.usage or {}):
        usage = usage._replace(characters=sum(map(len, texts)))
    each, rest = divmod(usage.input_tokens or 0, len(texts))
    predictions = [
        {
            "embeddings": {
                "values": floats(768, index),
                "statistics": {"token_count": each + (rest if index == 0 else 0), "truncated": False},
            }
        }
        for index in range(len(texts))
    ]
    body = {"predictions": predictions, "metadata": {"billableCharacterCount": usage.characters}}
    model = call.behaviour.model or str(call.params.get("model"))
    return Reply(body=dumps(body), bills=[call.bill(usage, model)])
