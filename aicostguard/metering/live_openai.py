"""OpenAI over a socket: Realtime sessions, and Responses over WebSocket, at OpenAI and at those that speak alike.

Owns which event begins a turn and which bills it. `response.done` bills a turn of a realtime session, by modality;
`conversation.item.input_audio_transcription.completed` bills another model, which wrote down what was said. Over a
socket Responses sends the events that it streams over HTTP, so `responses.read_response` reads them.
Definitions: https://developers.openai.com/api/reference/resources/realtime and …/resources/responses
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Tuple

from aicostguard.metering.endpoints import Endpoint
from aicostguard.metering.live import BEGUN, NOTHING, OVER, REFUSED, Step, Typed
from aicostguard.metering.openai import usage_of
from aicostguard.metering.responses import read_response
from aicostguard.metering.values import mapping, milliseconds, text
from aicostguard.usage import Reading, Usage

#: how many turns may be open at once; a server that never ends one must not fill the memory
MOST_OPEN = 256


class Open(Dict[str, Mapping[str, Any]]):
    """Turns that have begun: id → what is known of the response. The oldest makes room."""

    def begin(self, key: str, response: Mapping[str, Any]) -> None:
        """Remember a turn."""
        while len(self) >= MOST_OPEN:
            del self[next(iter(self))]
        self[key] = response


class Realtime(Typed):
    """A realtime session: https://developers.openai.com/api/reference/resources/realtime"""

    operation = "realtime"

    def __init__(self, endpoint: Endpoint, model: Optional[str]) -> None:
        super().__init__(endpoint, model)
        self.open = Open()
        #: the model that writes down what the user says
        self.transcriber: Optional[str] = None

    def asked(self, event: Mapping[str, Any]) -> Optional[str]:
        return ""

    def configured(self, event: Mapping[str, Any]) -> Tuple[Step, ...]:
        """The session as the server sees it: at its start, and after each change."""
        session = mapping(event.get("session"))
        self.model = text(session.get("model")) or self.model
        heard = mapping(mapping(session.get("audio")).get("input"))
        for holder in (heard.get("transcription"), session.get("input_audio_transcription")):  # the second: beta
            self.transcriber = text(mapping(holder).get("model")) or self.transcriber
        return NOTHING

    def committed(self, event: Mapping[str, Any]) -> Tuple[Step, ...]:
        """The user has stopped speaking: from here on the transcription takes its time."""
        item = text(event.get("item_id"))
        return (Step(BEGUN, item),) if item and self.transcriber else NOTHING

    def created(self, event: Mapping[str, Any]) -> Tuple[Step, ...]:
        key = text(mapping(event.get("response")).get("id"))
        if key is None:
            return NOTHING
        self.open.begin(key, {})
        return (Step(BEGUN, key, ""),)

    def done(self, event: Mapping[str, Any]) -> Tuple[Step, ...]:
        response = mapping(event.get("response"))
        key = text(response.get("id")) or ""
        self.open.pop(key, None)
        usage, mismatch = usage_of(response.get("usage"), self.facts)
        # Failed or cancelled before a token: nothing is billed.
        if response.get("status") in ("failed", "cancelled") and not (usage and (usage.input_tokens or 0) > 0):
            return (Step(OVER, key),)
        reading = Reading(text(response.get("model")), usage, mismatch=mismatch, response_id=key or None)
        return (Step(OVER, key, None, (self.reading(reading),)),)

    def transcribed(self, event: Mapping[str, Any]) -> Tuple[Step, ...]:
        """Billed by tokens, or by the length of what was heard, at the price of the transcribing model."""
        raw = mapping(event.get("usage"))
        usage, mismatch = usage_of(raw, self.facts)
        if usage is None and raw.get("type") == "duration":
            usage = Usage(audio_ms=milliseconds(raw.get("seconds")))
        key = text(event.get("item_id")) or ""
        # Another model's work, so never the session's name: a wrong price is worse than none.
        reading = Reading(self.transcriber or "unknown", usage, operation="audio", mismatch=mismatch)
        if self.transcriber is None and self.model and "transcribe" in self.model:
            reading = reading._replace(model=self.model)  # a session for nothing else
        return (Step(OVER, key, None, (self.reading(reading),)),)

    def not_transcribed(self, event: Mapping[str, Any]) -> Tuple[Step, ...]:
        return (Step(OVER, text(event.get("item_id")) or ""),)

    def failed(self, event: Mapping[str, Any]) -> Tuple[Step, ...]:
        """An error may be about any message of the client; this one is about a request for a turn."""
        code = mapping(event.get("error")).get("code")
        return (Step(REFUSED, "", ""),) if code == "conversation_already_has_active_response" else NOTHING

    def left(self) -> List[Step]:
        cut = self.reading(Reading(None, None), partial=True)
        steps = [Step(OVER, key, None, (cut,)) for key in self.open]
        self.open.clear()
        return steps

    asks = {"response.create": asked}
    tells = {
        "session.created": configured,
        "session.updated": configured,
        "transcription_session.created": configured,
        "transcription_session.updated": configured,
        "input_audio_buffer.committed": committed,
        "response.created": created,
        "response.done": done,
        "conversation.item.input_audio_transcription.completed": transcribed,
        "conversation.item.input_audio_transcription.failed": not_transcribed,
        "error": failed,
    }


class Responses(Typed):
    """Responses over WebSocket. Requests on different lanes (`stream_id`) run side by side."""

    def __init__(self, endpoint: Endpoint, model: Optional[str]) -> None:
        super().__init__(endpoint, model)
        self.open = Open()

    def asked(self, event: Mapping[str, Any]) -> Optional[str]:
        self.model = text(event.get("model")) or text(mapping(event.get("response")).get("model")) or self.model
        return text(event.get("stream_id")) or ""

    def created(self, event: Mapping[str, Any]) -> Tuple[Step, ...]:
        response = mapping(event.get("response"))
        key = text(response.get("id"))
        if key is None:
            return NOTHING
        self.open.begin(key, {name: response.get(name) for name in ("model", "background")})
        return (Step(BEGUN, key, text(event.get("stream_id")) or ""),)

    def over(self, event: Mapping[str, Any]) -> Tuple[Step, ...]:
        response = mapping(event.get("response"))
        key = text(response.get("id")) or ""
        self.open.pop(key, None)
        return (Step(OVER, key, None, tuple(map(self.reading, read_response(response, self.facts)))),)

    def failed(self, event: Mapping[str, Any]) -> Tuple[Step, ...]:
        return (Step(REFUSED, "", text(event.get("stream_id")) or ""),)

    def left(self) -> List[Step]:
        steps = []
        for key, known in self.open.items():
            # A background response goes on without its socket; a retrieval will tell what it cost.
            reading = Reading(text(known["model"]), None, response_id=key, pending=known["background"] is True)
            steps.append(Step(OVER, key, None, (self.reading(reading, partial=True),)))
        self.open.clear()
        return steps

    asks = {"response.create": asked}
    tells = {
        "response.created": created,
        "response.completed": over,
        "response.incomplete": over,
        "response.failed": over,
        "response.cancelled": over,
        "error": failed,
    }


PROTOCOLS = {"realtime": Realtime, "responses_socket": Responses}
