"""Google's work that takes its time: videos (Veo) and batches.

Owns what an operation bills. A video is billed when a poll finds it done; nothing in the answer says how long it is, so
the request that began it does. A batch is billed by its answers, which stand in the operation or in a file.
"""

from __future__ import annotations

from typing import Any, List, Mapping

from aicostguard.metering.batches import BATCH_FILE, Sums, _FileFold
from aicostguard.metering.formats import Facts, Fold, Format, is_error, over
from aicostguard.metering.gemini import read_embeddings, read_generate
from aicostguard.metering.values import count, mapping, milliseconds, parse, text
from aicostguard.usage import Reading, Usage


class NoFold(Fold):
    """For formats that have no streams: whatever comes as one bills nothing."""

    __slots__ = ()

    def event(self, data: bytes) -> bool:
        return False

    def readings(self) -> List[Reading]:
        return []


def read_video_begun(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """The answer to `predictLongRunning`: the name of an operation. https://ai.google.dev/gemini-api/docs/video"""
    name = text(body.get("name"))
    if name is None:
        return []
    asked = mapping(mapping(parse(facts.request() or b"")).get("parameters"))
    length = milliseconds(asked.get("durationSeconds"))
    videos = count(asked.get("sampleCount"))
    usage = Usage(video_ms=length * (1 if videos is None else videos)) if length else None
    return [Reading(None, usage, response_id=name, pending=True)]


def read_video_done(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """The operation, polled. Filtered videos and errors are free: https://ai.google.dev/gemini-api/docs/pricing"""
    name = text(body.get("name"))
    if name is None:
        return []
    if body.get("done") is not True:
        return [Reading(None, None, response_id=name, pending=True)]
    answer = mapping(body.get("response"))
    made = mapping(answer.get("generateVideoResponse")).get("generatedSamples") or answer.get("videos")
    if not made or is_error(body, "response"):
        return over(name, facts)
    return [Reading(None, None, response_id=name)]


def read_batch(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A batch, polled: its answers when it holds them. https://ai.google.dev/gemini-api/docs/batch-api"""
    answer = mapping(body.get("response"))
    sums = Sums()
    for key, read in (("inlinedResponses", read_generate), ("inlinedEmbedContentResponses", read_embeddings)):
        rows = mapping(answer.get(key)).get("inlinedResponses")
        for row in rows if type(rows) is list else []:
            response = mapping(mapping(row).get("response"))
            for reading in read(response, facts) if response else []:
                sums.add(reading)
    asked = text(mapping(body.get("metadata")).get("model"))
    return [one._replace(model=one.model or (asked or "").replace("models/", "") or None) for one in sums.readings()]


class GeminiBatchFold(_FileFold):
    """Lines of a batch's file: `{"key", "response": {…}}`, of requests that failed `{"key", "error"}`."""

    __slots__ = ()

    def line(self, data: bytes) -> List[Reading]:
        if b'"response"' not in data:
            return []
        response = mapping(mapping(parse(data)).get("response"))
        if "usageMetadata" not in response and "candidates" not in response:
            return []
        return read_generate(response, self.facts)


VIDEO_JOB = Format(
    "video_job", "image", "name", ("name", "error"), (), read_video_begun, (b"\0",), None, NoFold, 0,
    "https://ai.google.dev/gemini-api/docs/video",
)  # fmt: skip
VIDEO_JOB_GET = VIDEO_JOB._replace(name="video_job_get", usage="response", members=("name", "done", "error"))
VIDEO_JOB_GET = VIDEO_JOB_GET._replace(read=read_video_done)
GEMINI_BATCH = VIDEO_JOB._replace(
    name="gemini_batch", operation="batch", usage="response", members=("metadata",), read=read_batch,
    docs="https://ai.google.dev/gemini-api/docs/batch-api",
)  # fmt: skip
GEMINI_BATCH_FILE = BATCH_FILE._replace(
    name="gemini_batch_file", fold=GeminiBatchFold, docs="https://ai.google.dev/gemini-api/docs/batch-api"
)

FORMATS = (VIDEO_JOB, VIDEO_JOB_GET, GEMINI_BATCH, GEMINI_BATCH_FILE)
