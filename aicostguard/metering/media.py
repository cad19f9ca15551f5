"""Images, speech and video in OpenAI's shapes, at OpenAI and at those who follow it.

Owns what such answers count: tokens by text, image and audio where the model bills tokens; seconds of audio or video,
images or characters where it bills those. Bytes of media are never read: a large body says what matters at its end. A
transcript without figures (plain text, subtitles) bills an unknown amount, never zero.
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from aicostguard.metering.formats import Facts, Fold, Format, is_error, over
from aicostguard.metering.openai import usage_of
from aicostguard.metering.scan import members
from aicostguard.metering.values import count, mapping, milliseconds, parse, text
from aicostguard.usage import Reading, Usage

_DOCS = "https://developers.openai.com/api/reference/resources/"
#: bytes of a body of images that are held or searched
_MOST = 512 * 1024


def duration(value: object) -> Optional[int]:
    """Seconds, as a number or as OpenAI's video jobs write them ("8"), in milliseconds."""
    return milliseconds(count(value, digits=True)) if type(value) is str else milliseconds(value)


def _asked(facts: Facts) -> Mapping[str, Any]:
    return mapping(parse(facts.request() or b""))


# --- images: …/images (ImagesResponse) --------------------------------------------------------------------------
def _image_usage(raw: object, facts: Facts) -> Reading:
    usage, mismatch = usage_of(raw, facts)
    if usage is not None and usage.output_tokens is not None and "output_tokens_details" not in mapping(raw):
        # "The number of image tokens in the output image", where no details say otherwise.
        usage = usage._replace(output_image_tokens=usage.output_tokens)
    return Reading(None, usage, mismatch=mismatch)


def read_images(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """Images, whole. Models that bill by the image name no usage: then the images are counted."""
    if is_error(body, "usage", "data"):
        return []
    main = _image_usage(body.get("usage"), facts)
    if main.usage is None or main.usage.input_tokens is None:
        data = body.get("data")
        made = len(data) if type(data) is list else 0
        if made:
            main = main._replace(usage=(main.usage or Usage())._replace(images=made))
    readings = [main._replace(model=text(body.get("model")))]
    drawn = mapping(body.get("svg_usage"))
    if drawn:
        # Drawing a vector image is another model's work, outside `usage`.
        usage, mismatch = usage_of(drawn, facts)
        readings.append(Reading(text(drawn.get("model")) or "", usage, mismatch=mismatch))
    return readings


class _LastFold(Fold):
    """A stream whose event of a certain type carries the usage; the events before it carry pieces of the result."""

    __slots__ = ("_found", "_error", "_content")

    #: the types of such events end so
    ENDING = ""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._found: List[Mapping[str, Any]] = []
        self._error = False
        self._content = False

    def event(self, data: bytes) -> bool:
        if b'"error"' not in data and self.ENDING.encode() not in data:
            self._content = True
            return False
        # The event may hold a whole image beside its usage.
        event = members(data, "usage", ("type", "model")) or {}
        kind = text(event.get("type")) or ""
        if kind.endswith(self.ENDING):
            self._found.append(event)
        elif event.get("error") or kind == "error":
            self._error = True
        elif event:
            self._content = True
        return False

    def unfinished(self) -> bool:
        return not self._found

    def one(self, event: Mapping[str, Any]) -> Reading:
        usage, mismatch = usage_of(event.get("usage"), self.facts)
        return Reading(text(event.get("model")), usage, mismatch=mismatch)

    def readings(self) -> List[Reading]:
        if not self._found:
            return [] if self._error and not self._content else [Reading(None, None)]
        found = [self.one(event) for event in self._found]
        if len(found) == 1:
            return found
        # Nobody says whether the usage of several images is that of each or of all: each, and marked.
        total: Dict[str, int] = {}
        for reading in found:
            for name, value in (reading.usage or Usage())._asdict().items():
                if value is not None:
                    total[name] = total.get(name, 0) + value
        return [found[-1]._replace(usage=Usage(**total) if total else None, mismatch=True)]


class ImageFold(_LastFold):
    """`image_generation.partial_image`, then `image_generation.completed` (`image_edit.…` for edits).

    Partial images are tokens of the same usage: https://developers.openai.com/api/docs/guides/image-generation
    """

    __slots__ = ()
    ENDING = ".completed"

    def one(self, event: Mapping[str, Any]) -> Reading:
        return _image_usage(event.get("usage"), self.facts)._replace(model=text(event.get("model")))


# --- audio: …/audio ---------------------------------------------------------------------------------------------
def _audio(body: Mapping[str, Any], facts: Facts) -> Reading:
    raw = mapping(body.get("usage"))
    usage, mismatch = usage_of(raw, facts)
    seconds = duration(raw.get("seconds"))
    if seconds is None and usage is None:
        # Groq and older models name the length in the body of a verbose transcript only.
        seconds = duration(body.get("duration"))
    if seconds is not None:
        usage = (usage or Usage())._replace(audio_ms=seconds)
    return Reading(text(body.get("model")), usage, mismatch=mismatch)


def read_transcription(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A transcript or a translation: usage in tokens, in seconds, or (plain text, subtitles) not at all."""
    return [] if is_error(body, "usage", "text") else [_audio(body, facts)]


class TranscriptFold(_LastFold):
    """`transcript.text.delta`, then `transcript.text.done`; at Mistral `transcription.done`."""

    __slots__ = ()
    ENDING = ".done"

    def one(self, event: Mapping[str, Any]) -> Reading:
        return _audio(event, self.facts)


def read_speech(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """Speech: bytes of sound, which say nothing, or Mistral's JSON. The request says how many characters were read."""
    if is_error(body, "usage", "audio_data"):
        return []
    usage, mismatch = usage_of(body.get("usage"), facts)
    return [Reading(text(body.get("model")), _characters(usage, facts), mismatch=mismatch)]


def _characters(usage: Optional[Usage], facts: Facts) -> Optional[Usage]:
    """`usage` with the characters of the request's text, which older models bill, where no tokens are told."""
    if usage is not None and usage.input_tokens is not None:
        return usage
    spoken = _asked(facts).get("input")
    return (usage or Usage())._replace(characters=len(spoken)) if type(spoken) is str else usage


class SpeechFold(_LastFold):
    """`speech.audio.delta`, then `speech.audio.done`."""

    __slots__ = ()
    ENDING = "speech.audio.done"

    def readings(self) -> List[Reading]:
        return [one._replace(usage=_characters(one.usage, self.facts)) for one in super().readings()]


# --- video: …/videos --------------------------------------------------------------------------------------------
_WAITING = ("queued", "in_progress", "pending", "processing")
_FAILED = ("failed", "cancelled", "expired")


def read_video(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A job that makes a video: billed by its seconds when it is done.

    xAI answers with a `request_id`, then with `status` and the finished `video`:
    https://docs.x.ai/developers/model-capabilities/video/generation
    """
    status, done = body.get("status"), mapping(body.get("video"))
    identifier = text(body.get("id")) or text(body.get("request_id"))
    if status in _FAILED:
        return over(identifier, facts)
    if is_error(body, "id", "request_id", "video"):
        return []
    length = duration(body.get("seconds")) or duration(done.get("duration"))
    usage, mismatch = usage_of(body.get("usage"), facts)
    if length:
        usage = (usage or Usage())._replace(video_ms=length)
    waiting = status in _WAITING or (status is None and not done)
    return [Reading(text(body.get("model")), usage, mismatch=mismatch, response_id=identifier, pending=waiting)]


IMAGES = Format(
    # xAI's usage is the cost alone: then the images in the body are counted, too.
    "images", "image", "usage", ("model", "error", "svg_usage"), (b'"cost_in_usd_ticks"',), read_images,
    (b'"usage"', b'"error"'), b"[DONE]", ImageFold, 1, _DOCS + "images", most=_MOST,
)  # fmt: skip
TRANSCRIPTION = Format(
    "transcription", "audio", "usage", ("duration", "model", "error"), (), read_transcription,
    (b'.done"', b'"error"'), b"[DONE]", TranscriptFold, 1, _DOCS + "audio/subresources/transcriptions", opaque=True,
)  # fmt: skip
SPEECH = Format(
    "speech", "audio", "usage", ("model", "error"), (), read_speech,
    (b'.done"', b'"error"'), b"[DONE]", SpeechFold, 1, _DOCS + "audio/subresources/speech", opaque=True, most=_MOST,
)  # fmt: skip
VIDEO = Format(
    "video", "image", "usage", ("status", "id", "model", "seconds"), (), read_video,
    (b'"usage"',), None, ImageFold, 1, _DOCS + "videos",
)  # fmt: skip
VIDEO_GET = VIDEO._replace(name="video_get")

FORMATS = (IMAGES, TRANSCRIPTION, SPEECH, VIDEO, VIDEO_GET)
