"""A session over a socket → readings, turn by turn: what every protocol of messages is made of.

Owns the base of the protocols (`live_openai`, `live_gemini`, …), the steps they tell of, and the cheap look at a
message's type. A session is the opposite of a response: it lasts for hours, bills many times, and most of its bytes are
sound. Pure: no I/O, no clock. Never raises for what either side sent, and keeps no text of it. If this breaks, realtime
calls go uncounted, or their audio frames cost as much to look at as to decode.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple, Type, Union

from aicostguard.metering.endpoints import Endpoint
from aicostguard.metering.formats import Facts
from aicostguard.metering.providers import rules
from aicostguard.metering.values import mapping, parse, text
from aicostguard.usage import Reading

Message = Union[str, bytes]

#: format of an endpoint that is a session → module of this package whose `PROTOCOLS` holds it
MODULES: Dict[str, str] = {
    "realtime": "live_openai",
    "responses_socket": "live_openai",
    "bidi": "live_gemini",
    "interactions_socket": "live_interactions",
    "transcriptions_socket": "live_mistral",
}

# What a step says of a turn.
BEGUN, REFUSED, OVER = "begun", "refused", "over"

# A key is one where no other object has begun before it: then it is the message's own. Inside a text its quotes would
# be escaped. Only the start is looked at: behind it there may be half a megabyte of sound.
_TYPE = r'\s*\{[^{]{0,200}?"type"\s*:\s*"([\w.]+)"'
_TYPE_OF_TEXT = re.compile(_TYPE)
_TYPE_OF_BYTES = re.compile(_TYPE.encode())


class Step(NamedTuple):
    """What one message means for one turn.

    `key` names the turn until it is over. `lane` says which of the client's requests a turn that has begun answers: the
    oldest unanswered one of that lane; None when it answers none. `readings` are what a turn that is over bills.
    """

    what: str
    key: str
    lane: Optional[str] = None
    readings: Tuple[Reading, ...] = ()


NOTHING: Tuple[Step, ...] = ()


class Live:
    """One session being read. `model` is the one that the handshake's address names."""

    #: operation of its readings
    operation: Optional[str] = None

    def __init__(self, endpoint: Endpoint, model: Optional[str]) -> None:
        self.endpoint = endpoint
        self.model = model or endpoint.url_model
        self.facts = Facts(endpoint.format, rules(endpoint.provider), _no_header)

    def sent(self, message: Message) -> Optional[str]:
        """The lane on which the client asks for a turn with this message; None when it does not."""
        raise NotImplementedError

    def received(self, message: Message) -> Tuple[Step, ...]:
        """What this message of the server begins or bills."""
        raise NotImplementedError

    def left(self) -> List[Step]:
        """The session is over: what had begun and is billed, though its end was not seen."""
        raise NotImplementedError

    def reading(self, reading: Reading, partial: bool = False) -> Reading:
        """The reading with what the session knows."""
        return reading._replace(
            model=reading.model or self.model,
            provider=reading.provider or self.endpoint.provider,
            operation=reading.operation or self.operation,
            region=reading.region or self.endpoint.region,
            streamed=True,
            partial=partial and not reading.pending,
        )


class Typed(Live):
    """A protocol whose messages name their `type`: handlers by type, and nothing else is looked at."""

    #: type of a message of the client → method that gives its lane
    asks: Dict[str, Callable[[Any, Mapping[str, Any]], Optional[str]]] = {}
    #: type of a message of the server → method that gives steps
    tells: Dict[str, Callable[[Any, Mapping[str, Any]], Tuple[Step, ...]]] = {}

    def sent(self, message: Message) -> Optional[str]:
        found = _look(message, self.asks)
        return None if found is None else self.asks[found[0]](self, found[1])

    def received(self, message: Message) -> Tuple[Step, ...]:
        found = _look(message, self.tells)
        return NOTHING if found is None else self.tells[found[0]](self, found[1])


def _look(message: Message, wanted: Mapping[str, object]) -> Optional[Tuple[str, Mapping[str, Any]]]:
    """The message's type and members, when it is one of the wanted ones."""
    kind = type_of(message)
    if kind is not None:
        return (kind, mapping(parse(message))) if kind in wanted else None
    # Its type does not stand at the front. Any of the words in it is reason enough to read it.
    if not any((word if isinstance(message, str) else word.encode()) in message for word in wanted):  # type: ignore[operator]
        return None
    members = mapping(parse(message))
    kind = text(members.get("type"))
    return (kind, members) if kind is not None and kind in wanted else None


def type_of(message: Message) -> Optional[str]:
    """The `type` of a JSON message, where it stands among the first members; else None."""
    if isinstance(message, str):
        found = _TYPE_OF_TEXT.match(message)
        return found.group(1) if found else None
    seen = _TYPE_OF_BYTES.match(message)
    return seen.group(1).decode("ascii", "replace") if seen else None


def _no_header(name: str) -> Optional[str]:
    return None


_protocols: Dict[str, Type[Live]] = {}


def live(endpoint: Endpoint, query: str = "") -> Optional[Live]:
    """A reader for a session at this endpoint; None when the endpoint is no session. `query`: of its address."""
    protocol = _protocols.get(endpoint.format)
    if protocol is None:
        if endpoint.format not in MODULES:
            return None
        module = import_module("aicostguard.metering." + MODULES[endpoint.format])
        _protocols.update(module.PROTOCOLS)
        protocol = _protocols[endpoint.format]
    return protocol(endpoint, _model_in(query))


def _model_in(query: str) -> Optional[str]:
    """The model, or the deployment at Azure, that an address asks for."""
    if not query:
        return None
    from urllib.parse import parse_qs

    asked = parse_qs(query)
    for key in ("model", "deployment"):
        if asked.get(key):
            return asked[key][0]
    return None
