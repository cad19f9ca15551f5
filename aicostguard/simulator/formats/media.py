"""Images, transcripts, speech and moderation in OpenAI's shapes.

Owns `/images/…`, `/audio/…` and `/moderations`. Models that bill by the image, the second or the character say so, or
say nothing; the count has what their provider bills.
"""

from __future__ import annotations

import base64
from typing import Any, Dict, Iterator, Optional

from aicostguard.simulator.call import SSE, Call, Reply, dumps, sse
from aicostguard.usage import Usage

#: a picture; what it shows does not matter, that it is large does
PICTURE = base64.b64encode(bytes(range(256)) * 96).decode()
_SOUND = b"ID3\x04\x00\x00" + bytes(range(256)) * 16
_IMAGE = ("input_tokens", "output_tokens")
_IMAGE_PARTS = ("input_image_tokens", "output_image_tokens")


def images(call: Call) -> Reply:
    """POST …/images/generations, …/edits, …/variations."""
    model = call.params.get("deployment") or call.model("dall-e-2")
    asked = str(call.json.get("n"))
    number = int(asked) if asked.isdigit() else 1
    if model.startswith("dall-e"):
        body = {"created": call.created, "data": [{"url": "https://example.invalid/%d.png" % i} for i in range(number)]}
        return Reply(body=dumps(body), bills=[call.bill(Usage(images=number), model)])
    usage = call.usage(_IMAGE, _IMAGE_PARTS)
    usage = usage._replace(output_image_tokens=usage.output_tokens)
    bill = call.bill(usage, model, _streamed(call))
    told = _image_usage(usage)
    if _streamed(call):
        return Reply(content_type=SSE, events=_image_events(call, told), bills=[bill])
    body = {"created": call.created, "data": [{"b64_json": PICTURE}] * number, "size": "1024x1024", "usage": told}
    return Reply(body=dumps(body), bills=[bill])


def _streamed(call: Call) -> bool:
    return call.json.get("stream") in (True, "true")


def _image_usage(usage: Usage) -> Dict[str, Any]:
    into, out, image = usage.input_tokens or 0, usage.output_tokens or 0, usage.input_image_tokens or 0
    return {
        "input_tokens": into,
        "output_tokens": out,
        "total_tokens": into + out,
        "input_tokens_details": {"text_tokens": into - image, "image_tokens": image},
    }


def _image_events(call: Call, told: Dict[str, Any]) -> Iterator[bytes]:
    kind = "image_edit" if call.request.path.endswith("/edits") else "image_generation"
    head = {"created_at": call.created, "size": "1024x1024", "quality": "low", "background": "opaque"}
    head["output_format"] = "png"
    for index in range(2):
        name = kind + ".partial_image"
        yield sse({"type": name, **head, "b64_json": PICTURE, "partial_image_index": index}, name)
    name = kind + ".completed"
    yield sse({"type": name, **head, "b64_json": PICTURE, "usage": told}, name)


def transcription(call: Call) -> Reply:
    """POST …/audio/transcriptions and …/translations."""
    model = call.params.get("deployment") or call.model("whisper-1")
    form = str(call.json.get("response_format") or "json")
    seconds = 3 + call.seed % 50
    if form in ("text", "srt", "vtt"):
        return Reply(
            content_type="text/plain; charset=utf-8", body=call.text().encode(), bills=[call.bill(None, model)]
        )
    usage: Optional[Usage] = Usage(audio_ms=seconds * 1000)
    told: Dict[str, Any] = {"type": "duration", "seconds": seconds}
    if "transcribe" in model:
        usage = call.usage(_IMAGE)
        into, out = usage.input_tokens or 0, usage.output_tokens or 0
        usage = usage._replace(input_audio_tokens=into - 5)
        details = {"text_tokens": 5, "audio_tokens": into - 5}
        told = {"type": "tokens", "input_tokens": into, "output_tokens": out, "total_tokens": into + out}
        told["input_token_details"] = details
    bill = call.bill(usage, model, _streamed(call))
    if _streamed(call):
        return Reply(content_type=SSE, events=_transcript_events(call, told), bills=[bill])
    body: Dict[str, Any] = {"text": call.text(), "usage": told}
    if form == "verbose_json":
        body.update(task="transcribe", language="english", duration=seconds - 0.4, segments=[], words=None)
    return Reply(body=dumps(body), bills=[bill])


def _transcript_events(call: Call, told: Dict[str, Any]) -> Iterator[bytes]:
    for piece in call.pieces():
        yield sse({"type": "transcript.text.delta", "delta": piece}, "transcript.text.delta")
    yield sse({"type": "transcript.text.done", "text": call.text(), "usage": told}, "transcript.text.done")


def speech(call: Call) -> Reply:
    """POST …/audio/speech: sound, or events when `stream_format` asks for them."""
    model = call.params.get("deployment") or call.model("tts-1")
    if call.json.get("stream_format") != "sse":
        usage = Usage(characters=len(str(call.json.get("input") or "")))
        return Reply(content_type="audio/mpeg", body=_SOUND, bills=[call.bill(usage, model)])
    usage = call.usage(_IMAGE)
    into, out = usage.input_tokens or 0, usage.output_tokens or 0
    told = {"input_tokens": into, "output_tokens": out, "total_tokens": into + out}
    sound = base64.b64encode(_SOUND).decode()
    events = [sse({"type": "speech.audio.delta", "audio": sound}), sse({"type": "speech.audio.done", "usage": told})]
    return Reply(content_type=SSE, events=iter(events), bills=[call.bill(usage, model, True)])


def moderation(call: Call) -> Reply:
    """POST …/moderations: free."""
    result = {"flagged": False, "categories": {}, "category_scores": {}, "category_applied_input_types": {}}
    model = call.model("omni-moderation-latest")
    return Reply(body=dumps({"id": call.name("modr-"), "model": model, "results": [result]}))
