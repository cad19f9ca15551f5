"""Work that is ordered with one request and fetched with others: Replicate, DashScope's tasks, Z.ai's.

Owns when such work is billed: once, by the first answer that finds it finished. The answer to the order is `pending`
until then, and says under which ids the work can be met again; capture remembers them, and drops every answer to a
fetch whose id was not remembered. If this is wrong, a polled image is billed with every poll, or never.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from aicostguard.metering.folds import single
from aicostguard.metering.formats import Facts, Fold, Format, over
from aicostguard.metering.openai import read_completion, usage_of
from aicostguard.metering.values import count, mapping, milliseconds, parse, text
from aicostguard.usage import Reading, Usage

#: https://replicate.com/docs/topics/predictions/lifecycle
_REPLICATE_OPEN = ("starting", "processing", "queued")
#: member of `metrics` → field
_METRICS: Dict[str, str] = {
    "input_token_count": "input_tokens",
    "output_token_count": "output_tokens",
    "image_count": "images",
    "image_output_count": "images",
}


def read_prediction(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A prediction of Replicate, in whatever state.

    `predict_time` is not a count of the receipt's: it is what hardware-priced models bill, and such a receipt says
    `usage_missing`. One that failed or was cancelled bills what it ran; before it ran, nothing.
    """
    status = body.get("status")
    stream = text(mapping(body.get("urls")).get("stream"))
    reading = Reading(
        text(body.get("model")),
        None,
        response_id=text(body.get("id")),
        also=stream.rsplit("/", 1)[1] if stream and "/" in stream else None,
    )
    if status in _REPLICATE_OPEN:
        return [reading._replace(pending=True)]
    metrics = mapping(body.get("metrics"))
    found: Dict[str, int] = {}
    for name, field in _METRICS.items():
        number = count(metrics.get(name))
        if number is not None:
            found[field] = number
    if status == "succeeded" or found or milliseconds(metrics.get("predict_time")):
        return [reading._replace(usage=Usage(**found) if found else None)]
    return over(reading.response_id, facts) if status in ("failed", "canceled", "aborted") else []


def read_order(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """The answer to an order.

    One that was waited for (`Prefer: wait`) says `processing` though its output is there, and is not fetched again:
    Replicate's own SDK takes it for finished.
    """
    if body.get("status") == "processing" and body.get("output"):
        body = {**body, "status": "succeeded"}
    return read_prediction(body, facts)


def read_fetched(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """The answer to a poll.

    One that still says `processing` beside its output may have been billed by `read_order`, and is not watched for its
    end; an order that was not waited for is watched from its own answer on.
    """
    if body.get("status") in _REPLICATE_OPEN and body.get("output"):
        return []
    return read_prediction(body, facts)


class StreamFold(Fold):
    """The events of a prediction's own stream: text, and at the end `done`. They name nothing that could be counted.

    https://replicate.com/docs/topics/predictions/streaming
    """

    __slots__ = ()

    def event(self, data: bytes) -> bool:
        # Only blocks that hold the words "event: done" come here; the data of that event is an object.
        return data.startswith(b"{") and type(parse(data)) is dict

    def readings(self) -> List[Reading]:
        return [Reading(None, None)]


def _no_predictions(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    return []


def _media(raw: Mapping[str, Any]) -> Dict[str, int]:
    """What DashScope's media models count: https://www.alibabacloud.com/help/en/model-studio/text-to-image-v2-api-reference"""
    found: Dict[str, int] = {}
    images = count(raw.get("image_count"))
    if images is not None:
        found["images"] = images
    characters = count(raw.get("characters"))
    if characters is not None:
        found["characters"] = characters
    video = milliseconds(raw.get("video_duration"))
    if video is not None:
        found["video_ms"] = video
    elif "video_count" not in raw and "SR" not in raw:
        audio = milliseconds(raw.get("duration"))
        if audio is not None:
            found["audio_ms"] = audio
    return found


_OPERATIONS = (("images", "image"), ("audio_ms", "audio"), ("characters", "audio"))


def read_dashscope(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A task of DashScope, or a media model's answer at once."""
    output = mapping(body.get("output"))
    status = output.get("task_status")
    raw = mapping(body.get("usage"))
    reading = Reading(None, None, response_id=text(output.get("task_id")) or text(body.get("request_id")))
    if status in ("PENDING", "RUNNING", "SUSPENDED"):
        return [reading._replace(pending=True)]
    if status in ("FAILED", "CANCELED"):
        return over(reading.response_id, facts)
    if status == "UNKNOWN" or (not output and not raw):
        return []
    usage, mismatch = usage_of(raw, facts)
    media = _media(raw)
    if media:
        usage = (usage or Usage())._replace(**media)
    operation = next((name for field, name in _OPERATIONS if field in media), None)
    return [reading._replace(usage=usage, mismatch=mismatch, operation=operation)]


def read_zai(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """An asynchronous answer of Z.ai: https://docs.z.ai/api-reference/video/get-video-status"""
    status = body.get("task_status")
    usage, mismatch = usage_of(body.get("usage"), facts)
    reading = Reading(text(body.get("model")), usage, mismatch=mismatch, response_id=text(body.get("id")))
    if status == "PROCESSING":
        return [reading._replace(pending=True)]
    if status == "SUCCESS" or usage is not None:
        return [reading]
    return over(reading.response_id, facts) if status == "FAIL" else []


def read_perplexity(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """An asynchronous chat: https://docs.perplexity.ai/api-reference/async-chat-completions-post"""
    status = body.get("status")
    name = text(body.get("id"))
    if status in ("CREATED", "IN_PROGRESS"):
        return [Reading(text(body.get("model")), None, response_id=name, pending=True)]
    response = mapping(body.get("response"))
    if status == "FAILED":
        return over(name, facts)
    if status != "COMPLETED" or not response:
        return []
    return [reading._replace(response_id=name) for reading in read_completion(response, facts)]


def _nothing(event: Mapping[str, Any], facts: Facts) -> Optional[Reading]:
    return None


REPLICATE = Format(
    "replicate", None, "metrics", ("id", "model", "status", "error", "urls", "output"), (), read_order,
    (), None, single(_nothing), 1, "https://replicate.com/docs/topics/predictions/lifecycle",
)  # fmt: skip
STREAM = REPLICATE._replace(
    name="replicate_stream", read=_no_predictions, needles=(b"event: done", b"event:done"), fold=StreamFold, head=0,
    docs="https://replicate.com/docs/topics/predictions/streaming",
)  # fmt: skip
DASHSCOPE = REPLICATE._replace(
    name="dashscope_task", usage="usage", members=("output", "request_id"), read=read_dashscope,
    docs="https://www.alibabacloud.com/help/en/model-studio/manage-asynchronous-tasks",
)  # fmt: skip
PERPLEXITY = REPLICATE._replace(
    name="perplexity_task", usage="response", members=("id", "model", "status"), read=read_perplexity,
    docs="https://docs.perplexity.ai/api-reference/async-chat-completions-post",
)  # fmt: skip
ZAI = REPLICATE._replace(
    name="zai_task", usage="usage", members=("id", "model", "task_status"), read=read_zai,
    docs="https://docs.z.ai/api-reference/video/get-video-status",
)  # fmt: skip

FORMATS = (
    REPLICATE,
    REPLICATE._replace(name="replicate_get", read=read_fetched),
    STREAM,
    DASHSCOPE,
    DASHSCOPE._replace(name="dashscope_task_get"),
    PERPLEXITY,
    PERPLEXITY._replace(name="perplexity_task_get"),
    ZAI,
    ZAI._replace(name="zai_task_get"),
)
