"""Mistral's realtime transcription: sound in, text out, one bill at the end.

Owns the reading of `transcription.done`, which carries the usage of the whole session.
Definition: https://docs.mistral.ai/api/endpoint/audio/transcriptions
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional, Tuple

from aicostguard.metering.endpoints import Endpoint
from aicostguard.metering.formats import tier
from aicostguard.metering.live import BEGUN, NOTHING, OVER, Step, Typed
from aicostguard.metering.openai import usage_of
from aicostguard.metering.values import mapping, text
from aicostguard.usage import Reading

_TURN = "turn"


class Transcription(Typed):
    """One session, which is one call."""

    operation = "audio"

    def __init__(self, endpoint: Endpoint, model: Optional[str]) -> None:
        super().__init__(endpoint, model)
        self._heard = False

    def asked(self, event: Mapping[str, Any]) -> Optional[str]:
        return ""

    def configured(self, event: Mapping[str, Any]) -> Tuple[Step, ...]:
        self.model = text(mapping(event.get("session")).get("model")) or self.model
        return NOTHING

    def writing(self, event: Mapping[str, Any]) -> Tuple[Step, ...]:
        """The first piece of text: from here on the session bills."""
        if self._heard:
            return NOTHING
        self._heard = True
        return (Step(BEGUN, _TURN, ""),)

    def done(self, event: Mapping[str, Any]) -> Tuple[Step, ...]:
        self._heard = False
        raw = mapping(event.get("usage"))
        usage, mismatch = usage_of(raw, self.facts)
        served = tier(raw.get("service_tier"))
        reading = Reading(text(event.get("model")), usage, service_tier=served, mismatch=mismatch)
        return (Step(OVER, _TURN, None, (self.reading(reading),)),)

    def left(self) -> List[Step]:
        heard, self._heard = self._heard, False
        return [Step(OVER, _TURN, None, (self.reading(Reading(None, None), partial=True),))] if heard else []

    asks = {"input_audio.end": asked}
    tells = {
        "session.created": configured,
        "session.updated": configured,
        "transcription.text.delta": writing,
        "transcription.done": done,
    }


PROTOCOLS = {"transcriptions_socket": Transcription}
