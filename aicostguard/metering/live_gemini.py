"""Gemini Live: BidiGenerateContent, at the Gemini API and on Vertex.

Owns when a turn is over and which `usageMetadata` is its bill. Each turn bills the whole context anew, so turns add up;
within one generation a later snapshot replaces an earlier one. A generation ends with the turn, or with a tool call
that the client answers: what is generated then is billed anew. Usage may come before the answer is sent, or after.
Definition: https://ai.google.dev/api/live#UsageMetadata
"""

from __future__ import annotations

import re
from typing import Any, List, Mapping, Optional, Tuple

from aicostguard.metering.endpoints import Endpoint
from aicostguard.metering.gemini import queries, served, usage_of
from aicostguard.metering.live import BEGUN, OVER, Live, Message, Step
from aicostguard.metering.values import count, mapping, parse, text
from aicostguard.usage import Reading, inconsistent

#: a session has one turn at a time
_TURN = "turn"
#: first member of a message of the client; SDKs write either way
_FIRST = r'\s*\{\s*"(setup|client_?content|tool_?response|realtime_?input)"\s*:\s*(\{\s*"(text|activity_?end)")?'
_FIRST_OF_TEXT = re.compile(_FIRST, re.IGNORECASE)
_FIRST_OF_BYTES = re.compile(_FIRST.encode(), re.IGNORECASE)
_NEEDLES = ('"usageMetadata"', '"turnComplete"', '"modelTurn"', '"webSearchQueries"', '"toolCall"')
_NEEDLES_OF_BYTES = tuple(map(str.encode, _NEEDLES))
# Sound is a text of base64, in which no quote can stand: from its first to its last quote nothing has to be looked at.
_SOUND = r'"data"\s*:\s*"'
_SOUND_OF_TEXT = re.compile(_SOUND)
_SOUND_OF_BYTES = re.compile(_SOUND.encode())
#: how far from the start of a message its sound begins
_HEAD = 400
_LOCATION = re.compile(r"/locations/([a-z0-9-]{1,32})/")


class Bidi(Live):
    """One session. `_held` is the newest snapshot of a generation that is not over."""

    operation = "realtime"

    def __init__(self, endpoint: Endpoint, model: Optional[str]) -> None:
        super().__init__(endpoint, model)
        self._held: Optional[Mapping[str, Any]] = None
        #: something was generated in this turn
        self._open = False
        #: the turn is over and its usage has not come yet
        self._waiting = False
        #: this generation has called a tool; and the client has answered it
        self._called = False
        self._answered = False
        self._searches = 0

    def sent(self, message: Message) -> Optional[str]:
        seen = _FIRST_OF_TEXT.match(message) if isinstance(message, str) else _FIRST_OF_BYTES.match(message)
        if seen is None:
            return None
        first = seen.group(1)
        word = (first if isinstance(first, str) else first.decode()).lower().replace("_", "")
        if word == "setup":
            self._configured(mapping(mapping(parse(message)).get("setup")))
            return None
        if word == "toolresponse":
            self._called, self._answered = False, self._called
            return ""
        if word == "clientcontent":
            return ""
        return "" if seen.group(3) else None  # sound goes by all the time and asks for nothing

    def _configured(self, setup: Mapping[str, Any]) -> None:
        named = text(setup.get("model"))
        if named is not None:
            self.model = named.rpartition("/")[2]
            where = _LOCATION.search(named)
            if where is not None:
                self.endpoint = self.endpoint._replace(region=where.group(1))

    def received(self, message: Message) -> Tuple[Step, ...]:
        usage, complete, content, searched, called = _words(message)
        steps: List[Step] = []
        if content or called:
            if self._answered or self._waiting:
                again = self._answered and self._open
                steps += self._finish()  # where its usage never came, that of the turn before, too
                self._open = self._open and not again
            if not self._open:
                self._open = True
                steps.append(Step(BEGUN, _TURN, ""))
            self._called = self._called or called
        if not (usage or complete or searched):
            return tuple(steps)
        members = mapping(parse(message))
        said = mapping(members.get("serverContent"))
        raw = members.get("usageMetadata")
        complete = said.get("turnComplete") is True
        if searched:
            # Grounding metadata is repeated, not added to.
            self._searches = max(self._searches, queries({"candidates": [said]}))
        if type(raw) is dict:
            self._held = raw
            self._open = self._open or not self._waiting
        if complete:
            self._waiting = self._open
            self._open = False
        if self._waiting and self._held is not None:
            steps += self._finish()
        return tuple(steps)

    def _finish(self, partial: bool = False) -> List[Step]:
        """The bill of the generation so far."""
        held, waiting = self._held, self._waiting
        searches, self._searches = self._searches, 0
        self._held, self._waiting, self._called, self._answered = None, False, False, False
        if held is None and not waiting and not partial:
            return []
        raw = dict(held or {})
        # Here the answer is called the response: https://ai.google.dev/api/live#UsageMetadata
        for old, new in (("responseTokenCount", "candidatesTokenCount"),
                         ("responseTokensDetails", "candidatesTokensDetails")):  # fmt: skip
            if old in raw:
                raw.setdefault(new, raw[old])
        usage, mismatch = usage_of(raw)
        if mismatch and usage is not None:
            # Some models leave thoughts out of the total, and bill them all the same.
            whole = count(raw.get("totalTokenCount"), digits=True)
            if whole is not None:
                mismatch = inconsistent(usage, whole + (usage.reasoning_output_tokens or 0))
        if usage is not None and searches:
            usage = usage._replace(web_searches=searches)
        reading = Reading(None, usage, service_tier=served(raw, self.facts), mismatch=mismatch)
        return [Step(OVER, _TURN, None, (self.reading(reading, partial),))]

    def left(self) -> List[Step]:
        ended = self._held is not None and (self._called or self._answered)
        unfinished = self._open and not ended
        self._open = False
        return self._finish(unfinished)


def _words(message: Message) -> Tuple[bool, ...]:
    """Which of the needles are in a message, outside the sound that it may begin with."""
    if isinstance(message, str):
        sound = _SOUND_OF_TEXT.search(message, 0, _HEAD)
        if sound is not None:
            message = message[: sound.end()] + message[message.find('"', sound.end()) :]
        return tuple(needle in message for needle in _NEEDLES)
    heard = _SOUND_OF_BYTES.search(message, 0, _HEAD)
    if heard is not None:
        message = message[: heard.end()] + message[message.find(b'"', heard.end()) :]
    return tuple(needle in message for needle in _NEEDLES_OF_BYTES)


PROTOCOLS = {"bidi": Bidi}
