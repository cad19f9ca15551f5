"""Google's interactions over a WebSocket: input and steps for as long as the client likes, and one bill at the end.

Owns when an interaction has begun and what ends it. A connection joins one that was begun before, or begins one, and to
leave it does not end it: what was left is pending, and the connection that hears of its end, or a poll, tells its cost.
Usage in the events counts the whole interaction, so the last one stands.
Definition: https://ai.google.dev/api/interactions-api (Usage); google-genai 3.6 (`interactions.ServerEvent`)
"""

from __future__ import annotations

import re
from typing import Any, Iterator, List, Mapping, Optional, Tuple

from aicostguard.metering.endpoints import Endpoint
from aicostguard.metering.interactions import usage_of
from aicostguard.metering.live import BEGUN, OVER, Live, Message, Step
from aicostguard.metering.values import mapping, parse, text
from aicostguard.usage import Reading

#: a connection has one interaction
_TURN = "interaction"
_ASKS = ("interaction.create", "interaction.connect")
_NAMES = ("interaction.created", "interaction.connected")
_WORKS = ("step.start", "step.stop")
_ENDS = ("interaction.completed", "interaction.cancelled", "interaction.canceled")
_TELLS = (*_NAMES, *_WORKS, *_ENDS)
# As in `live`: where no other object has begun before the key, it is the message's own.
_FRONT = r'\s*\{[^{]{0,200}?"event_type"\s*:\s*"([\w.]+)"'
_FRONT_OF_TEXT = re.compile(_FRONT)
_FRONT_OF_BYTES = re.compile(_FRONT.encode())


class Interaction(Live):
    """One connection. `_usage` is the last that a step told of."""

    operation = "realtime"

    def __init__(self, endpoint: Endpoint, model: Optional[str]) -> None:
        super().__init__(endpoint, model)
        self._id: Optional[str] = None
        self._begun = False
        self._ended = False
        self._usage: Mapping[str, Any] = {}

    def sent(self, message: Message) -> Optional[str]:
        asked = None
        for _, event in _events(message, _ASKS):
            self._id = text(event.get("id")) or self._id
            self.model = text(event.get("model")) or self.model
            asked = ""
        return asked  # input goes by all the time and asks for no more

    def received(self, message: Message) -> Tuple[Step, ...]:
        steps: List[Step] = []
        for kind, event in _events(message, _TELLS):
            if kind in _NAMES:
                self._named(event)
            elif kind in _WORKS:
                self._usage = mapping(event.get("usage")) or self._usage
                if not self._begun:
                    self._begun = True
                    steps.append(Step(BEGUN, _TURN, ""))
            elif not self._ended:
                steps.append(self._end(event, kind == "interaction.completed"))
        return tuple(steps)

    def _named(self, event: Mapping[str, Any]) -> None:
        whole = mapping(event.get("interaction"))
        self._id = text(event.get("interaction_id")) or text(whole.get("id")) or self._id
        # An agent is told instead of a model.
        self.model = text(whole.get("model")) or text(whole.get("agent")) or self.model
        self._ended = False

    def _end(self, event: Mapping[str, Any], completed: bool) -> Step:
        usage, mismatch = usage_of(mapping(event.get("usage")) or self._usage)
        self._begun, self._ended, self._usage = False, True, {}
        if usage is None and not (completed and not mapping(event.get("status")).get("code")):
            return Step(OVER, _TURN)  # failed or cancelled before a token
        reading = Reading(None, usage, mismatch=mismatch, response_id=self._id)
        return Step(OVER, _TURN, "", (self.reading(reading),))

    def left(self) -> List[Step]:
        if not self._begun:
            return []
        usage, mismatch = usage_of(self._usage)
        self._begun, self._usage = False, {}
        reading = Reading(None, usage, mismatch=mismatch, response_id=self._id, pending=self._id is not None)
        return [Step(OVER, _TURN, None, (self.reading(reading, partial=True),))]


def _events(message: Message, wanted: Tuple[str, ...]) -> Iterator[Tuple[str, Mapping[str, Any]]]:
    """The events of these kinds in a message, which is an event or holds a list of them."""
    if isinstance(message, str):
        front = _FRONT_OF_TEXT.match(message)
        here = front.group(1) in wanted if front else any('"%s"' % kind in message for kind in wanted)
    else:
        seen = _FRONT_OF_BYTES.match(message)
        kinds = map(str.encode, wanted)
        here = seen.group(1) in kinds if seen else any(b'"%s"' % kind in message for kind in kinds)
    if not here:
        return
    whole = mapping(parse(message))
    events = whole.get("events")
    for event in map(mapping, events if type(events) is list else [whole]):
        kind = text(event.get("event_type"))
        if kind in wanted:
            yield kind, event


PROTOCOLS = {"interactions_socket": Interaction}
