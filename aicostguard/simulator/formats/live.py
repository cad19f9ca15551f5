"""What providers say over a WebSocket: realtime sessions, Responses, Gemini Live, interactions, transcription.

Owns the conversations and what each turn of them costs; a turn is billed when its first message goes out. The
messages are those of the documented formats; sound is silence.
Sources: https://developers.openai.com/api/reference/resources/realtime, https://ai.google.dev/api/live,
https://ai.google.dev/api/interactions-api, https://docs.mistral.ai/api/endpoint/audio/transcriptions
"""

from __future__ import annotations

import base64
import json
import re
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple
from urllib.parse import parse_qs

from aicostguard.simulator.app import App
from aicostguard.simulator.behaviour import Behaviour
from aicostguard.simulator.call import Call, Request, dumps
from aicostguard.simulator.formats import gemini, jobs, responses, shapes
from aicostguard.simulator.socket import Message, Say, Talk, Turn
from aicostguard.usage import Usage

#: what a chunk of sound holds: a tenth of a second of silence
SILENCE = base64.b64encode(bytes(4800)).decode()


class _Talk:
    """What all conversations share: the behaviour of a turn, and its numbers."""

    format = ""

    def __init__(self, app: App, request: Request) -> None:
        self.app = app
        self.request = request
        asked = parse_qs(request.query)
        self.model = (asked.get("model") or asked.get("deployment") or ["simulated-model"])[0]

    def opened(self) -> List[Say]:
        return []

    def call(self, message: Message, fmt: Optional[str] = None) -> Call:
        """A turn: this message is its request."""
        body = message if isinstance(message, bytes) else message.encode()
        behaviour = self.app.steering.choose(self.request.headers.get("x-sim"), (None, None, self.request.path, body))
        return Call(self.request._replace(body=body), behaviour, {}, fmt or self.format, self.app.store)


def _spread(usage: Usage, behaviour: Behaviour) -> Usage:
    """Part of it is sound, unless the test has said what it is."""
    if behaviour.usage:
        return usage
    heard, spoken = (usage.input_tokens or 0) // 2, (usage.output_tokens or 0) // 3
    cached = min(usage.cache_read_input_tokens or 0, heard) // 2
    return usage._replace(input_audio_tokens=heard, output_audio_tokens=spoken, cache_read_audio_tokens=cached)


_REALTIME = ("input_tokens", "output_tokens", "cache_read_input_tokens")
_REALTIME_MORE = ("input_audio_tokens", "output_audio_tokens", "cache_read_audio_tokens", "input_image_tokens")


def _realtime_usage(usage: Usage) -> Dict[str, Any]:
    def parts(whole: Optional[int], audio: Optional[int], image: Optional[int]) -> Dict[str, int]:
        text = (whole or 0) - (audio or 0) - (image or 0)
        return {"text_tokens": text, "audio_tokens": audio or 0, "image_tokens": image or 0}

    cached = usage.cache_read_input_tokens
    told = parts(usage.output_tokens, usage.output_audio_tokens, None)
    del told["image_tokens"]
    return {
        "total_tokens": (usage.input_tokens or 0) + (usage.output_tokens or 0),
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "input_token_details": {
            **parts(usage.input_tokens, usage.input_audio_tokens, usage.input_image_tokens),
            "cached_tokens": cached or 0,
            "cached_tokens_details": parts(cached, usage.cache_read_audio_tokens, None),
        },
        "output_token_details": told,
    }


class Realtime(_Talk):
    """OpenAI's Realtime API. Committed audio is answered by itself when the session detects turns."""

    format = "realtime"

    def __init__(self, app: App, request: Request) -> None:
        super().__init__(app, request)
        self.transcriber: Optional[str] = None
        self.detects = False
        self.number = 0

    def opened(self) -> List[Say]:
        return [self._event("session.created", session=self._session())]

    def _event(self, kind: str, **more: Any) -> Say:
        self.number += 1
        return Say(dumps({"type": kind, "event_id": "event_%d" % self.number, **more}).decode())

    def _session(self) -> Dict[str, Any]:
        heard = {"transcription": {"model": self.transcriber} if self.transcriber else None}
        return {"type": "realtime", "object": "realtime.session", "model": self.model, "audio": {"input": heard}}

    def heard(self, message: Message) -> Optional[Turn]:
        event = json.loads(message)
        kind = event.get("type")
        if kind == "session.update":
            heard = ((event.get("session") or {}).get("audio") or {}).get("input") or {}
            self.transcriber = (heard.get("transcription") or {}).get("model") or self.transcriber
            self.detects = bool(heard.get("turn_detection")) or self.detects
            return Turn(iter([self._event("session.updated", session=self._session())]))
        if kind == "conversation.item.create":
            item = {"id": self.call(message).name("item_"), "object": "realtime.item", **event["item"]}
            return Turn(iter([self._event("conversation.item.added", item=item, previous_item_id=None)]))
        if kind == "input_audio_buffer.commit":
            return Turn(self._committed(message))
        if kind == "response.create":
            call = self.call(message)
            return Turn(self._response(call), call.behaviour)
        return None

    def _committed(self, message: Message) -> Iterator[Say]:
        call = self.call(message, "transcription")
        item = call.name("item_")
        yield self._event("input_audio_buffer.committed", item_id=item, previous_item_id=None)
        if self.transcriber:
            yield from self._transcript(call, item)
        if self.detects:
            yield from self._response(self.call(message))

    def _transcript(self, call: Call, item: str) -> Iterator[Say]:
        name = "conversation.item.input_audio_transcription."
        if self.transcriber == "whisper-1":
            usage = Usage(audio_ms=3500)
            told: Dict[str, Any] = {"type": "duration", "seconds": 3.5}
        else:
            usage = Usage(input_tokens=20 + call.seed % 99, output_tokens=7, input_audio_tokens=14)
            told = {"type": "tokens", **_realtime_usage(usage)}
            del told["output_token_details"]
        done = self._event(name + "completed", item_id=item, content_index=0, transcript="word", usage=told)
        yield self._event(name + "delta", item_id=item, content_index=0, delta="word")._replace(
            bills=[call.bill(usage, self.transcriber)]
        )
        yield done._replace(last=True)

    def _response(self, call: Call) -> Iterator[Say]:
        usage = None
        if not call.behaviour.no_usage:
            usage = _spread(call.usage(_REALTIME, _REALTIME_MORE), call.behaviour)
        identifier = call.name("resp_")
        item = {"id": call.name("item_"), "object": "realtime.item", "type": "message", "role": "assistant"}
        body: Dict[str, Any] = {"object": "realtime.response", "id": identifier, "status": "in_progress"}
        begun = {**body, "status_details": None, "output": [], "usage": None}
        bill = call.bill(usage, call.behaviour.model or self.model, True, response_id=identifier)
        yield self._event("response.created", response=begun)._replace(bills=[bill])
        yield self._event("response.output_item.added", response_id=identifier, output_index=0, item=item)
        at = {"response_id": identifier, "item_id": item["id"], "output_index": 0, "content_index": 0}
        for piece in call.pieces():
            yield self._event("response.output_audio_transcript.delta", delta=piece, **at)
            yield self._event("response.output_audio.delta", delta=SILENCE, **at)
        yield self._event("response.output_audio.done", **at)
        content = [{"type": "output_audio", "transcript": call.text()}]
        ended = {**item, "status": "completed", "content": content}
        yield self._event("response.output_item.done", response_id=identifier, output_index=0, item=ended)
        told = None if usage is None else _realtime_usage(usage)
        whole = {**body, "status": "completed", "status_details": None, "output": [ended], "usage": told}
        yield self._event("response.done", response=whole)._replace(last=True)


class Responses(_Talk):
    """The Responses API over WebSocket: the events of its stream, one a message."""

    format = "responses"

    def heard(self, message: Message) -> Optional[Turn]:
        event = json.loads(message)
        if event.get("type") != "response.create":
            return None
        call = self.call(message)
        call.json = {**event, "stream": True}
        return Turn(self._events(call, event.get("stream_id")), call.behaviour)

    def _events(self, call: Call, lane: Optional[str]) -> Iterator[Say]:
        usage = None if call.behaviour.no_usage else call.usage(shapes.RESPONSES.always)
        identifier = call.name("resp_")
        body = responses.body_of(call, identifier, call.model(self.model), usage)
        bill = call.bill(usage, body["model"], True, response_id=identifier, service_tier=call.behaviour.service_tier)
        for event in responses.events_of(body, call.pieces()):
            value = json.loads(event.partition(b"data: ")[2])
            if lane is not None:
                value["stream_id"] = lane
            first, last = value["type"] == "response.created", value["type"] == "response.completed"
            yield Say(dumps(value).decode(), [bill] if first else [], last)


_LIVE = ("input_tokens", "output_tokens")
_LIVE_MORE = ("input_audio_tokens", "output_audio_tokens", "input_image_tokens", "cache_read_input_tokens",
              "reasoning_output_tokens")  # fmt: skip


def _snake(value: Any) -> Any:
    """Keys as this file writes them: clients may send them either way."""
    if isinstance(value, dict):
        return {re.sub(r"(?<!^)([A-Z])", r"_\1", key).lower(): _snake(item) for key, item in value.items()}
    return [_snake(item) for item in value] if isinstance(value, list) else value


class Bidi(_Talk):
    """Gemini Live. With `tool_calls` a turn asks for them, and goes on when the client has answered."""

    format = "live"

    def heard(self, message: Message) -> Optional[Turn]:
        event = _snake(json.loads(message))
        if "setup" in event:
            self.model = str(event["setup"].get("model", "")).rpartition("/")[2]
            return Turn(iter([Say(b'{"setupComplete": {}}')]))
        if "tool_response" in event:
            call = self.call(message)
            return Turn(self._generation(call, True), call.behaviour)
        content, sound = event.get("client_content"), event.get("realtime_input")
        if (content and content.get("turn_complete")) or (sound and ("text" in sound or "activity_end" in sound)):
            call = self.call(message)
            return Turn(self._generation(call), call.behaviour)
        return None

    def _generation(self, call: Call, answered: bool = False) -> Iterator[Say]:
        behaviour = call.behaviour
        usage = None
        if not behaviour.no_usage:
            usage = call.usage(_LIVE, _LIVE_MORE)
            usage = _spread(usage, behaviour)._replace(cache_read_audio_tokens=None)
            if not behaviour.usage:
                thoughts = usage.reasoning_output_tokens or 0
                usage = usage._replace(output_audio_tokens=((usage.output_tokens or 0) - thoughts) // 2)
        bill = call.bill(usage, behaviour.model or self.model, True)
        asked = call.tool_inputs() if not answered else []
        bills = [bill]
        told: Dict[str, Any] = {} if usage is None else {"usageMetadata": _live_usage(usage)}
        if asked:
            calls = [{"id": call.name("call_"), "name": "lookup", "args": value} for value in asked]
            yield Say(_plain({"toolCall": {"functionCalls": calls}}), bills)
            yield Say(_plain({"serverContent": {}, **told}), last=True)
            return
        for piece in call.pieces():
            parts = [{"inlineData": {"mimeType": "audio/pcm;rate=24000", "data": SILENCE}}, {"text": piece}]
            yield Say(_plain({"serverContent": {"modelTurn": {"role": "model", "parts": parts}}}), bills)
            bills = []
        yield Say(_plain({"serverContent": {"generationComplete": True}}))
        yield Say(_plain({"serverContent": {"turnComplete": True}, **told}), last=True)


def _plain(value: Any) -> bytes:
    return json.dumps(value, indent=2).encode()  # binary, and with blanks, as Google writes


def _live_usage(usage: Usage) -> Dict[str, Any]:
    thoughts = usage.reasoning_output_tokens
    answer = (usage.output_tokens or 0) - (thoughts or 0)
    out: Dict[str, Any] = {
        "promptTokenCount": usage.input_tokens,
        "responseTokenCount": answer,
        "totalTokenCount": (usage.input_tokens or 0) + (usage.output_tokens or 0),
        "promptTokensDetails": gemini.modalities(
            usage.input_tokens or 0, usage.input_audio_tokens, usage.input_image_tokens, None
        ),
        "responseTokensDetails": gemini.modalities(answer, usage.output_audio_tokens, None, None),
    }
    if usage.cache_read_input_tokens:
        out["cachedContentTokenCount"] = usage.cache_read_input_tokens
    if thoughts is not None:
        out["thoughtsTokenCount"] = thoughts
    return out


class Interactions(_Talk):
    """Google's interactions, begun here or joined by their id; to leave one does not end it."""

    format = "interactions"

    def __init__(self, app: App, request: Request) -> None:
        super().__init__(app, request)
        self.id = ""

    def heard(self, message: Message) -> Optional[Turn]:
        call, asked = self.call(message), json.loads(message)
        says = [say for event in asked.get("events") or [asked] for say in self._answers(event, call)]
        return Turn(iter(says), call.behaviour) if says else None

    def _answers(self, event: Dict[str, Any], call: Call) -> Iterator[Say]:
        kind = event.get("event_type")
        if kind == "interaction.create":
            call.json = {**event, "background": True}
            self.id = json.loads(jobs.interaction(call).body)["id"]
            yield _event("interaction.created", interaction_id=self.id)
        elif kind == "interaction.connect":
            self.id = str(event.get("id"))
            yield _event("interaction.connected")
        elif kind == "input":
            yield _event("step.start", index=0, step={"type": "model_output"})
            for piece in call.pieces():
                yield _event("step.delta", index=0, delta={"type": "audio", "mime_type": "audio/pcm", "data": SILENCE})
                yield _event("step.delta", index=0, delta={"type": "text", "text": piece})
            yield _event("step.stop", index=0)
        elif kind == "interaction.complete":
            whole, bills = jobs.ended(self.app.store, self.id)
            told = _event("interaction.completed", status={"code": 0}, usage=whole.get("usage"))
            yield told._replace(bills=bills, last=True)


def _event(kind: str, **more: Any) -> Say:
    return Say(dumps({"event_type": kind, **more}).decode())


class Transcription(_Talk):
    """Mistral's realtime transcription."""

    format = "transcription"

    def opened(self) -> List[Say]:
        return [self._event("session.created")]

    def _event(self, kind: str, **more: Any) -> Say:
        session = {"request_id": "simulated", "model": self.model, "audio_format": _PCM}
        return Say(dumps({"type": kind, **({"session": session} if kind.startswith("session.") else more)}).decode())

    def heard(self, message: Message) -> Optional[Turn]:
        kind = json.loads(message).get("type")
        if kind == "session.update":
            return Turn(iter([self._event("session.updated")]))
        if kind != "input_audio.end":
            return None
        call = self.call(message)
        return Turn(self._text(call), call.behaviour)

    def _text(self, call: Call) -> Iterator[Say]:
        usage = Usage(input_tokens=11 + call.seed % 99, output_tokens=7, audio_ms=12_000)
        bills = [call.bill(usage, self.model, True)]
        for piece in call.pieces():
            yield self._event("transcription.text.delta", text=piece)._replace(bills=bills)
            bills = []
        told = {"prompt_tokens": usage.input_tokens, "completion_tokens": 7, "prompt_audio_seconds": 12}
        told["total_tokens"] = (usage.input_tokens or 0) + 7
        done: Dict[str, Any] = {
            "model": self.model,
            "text": call.text(),
            "usage": told,
            "segments": [],
            "language": None,
        }
        yield self._event("transcription.done", **done)._replace(last=True)


_PCM = {"encoding": "pcm_s16le", "sample_rate": 16000}

#: end of the path → conversation, and who has it
_TALKS: Tuple[Tuple[str, Callable[[App, Request], Talk], Tuple[str, ...]], ...] = (
    (r"/v1/audio/transcriptions/realtime", Transcription, ("mistral", "custom")),
    (r"(/v1|/openai|/openai/v1)/realtime", Realtime, ("openai", "azure", "xai", "together", "custom")),
    (r"(/v1|/openai/v1)/responses", Responses, ("openai", "azure", "xai", "custom")),
    (r"/ws/google\.ai\.generativelanguage\.v1(beta|alpha)?\.GenerativeService\.BidiGenerateContent", Bidi,
     ("google", "custom")),
    (r"/v1(beta|alpha)?/interactions/live", Interactions, ("google", "custom")),
    (r"/ws/google\.cloud\.aiplatform\.v1(beta1)?\.LlmBidiService/BidiGenerateContent", Bidi, ("vertex",)),
)  # fmt: skip


def talk(app: App, request: Request) -> Optional[Talk]:
    """The conversation at an address, or None when the provider has none there."""
    path = request.path.replace("//", "/")
    for pattern, kind, providers in _TALKS:
        if request.provider in providers and re.fullmatch(pattern, path):
            return kind(app, request)
    return None
