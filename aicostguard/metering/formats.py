"""What every format is made of: the row type, the facts a reader may look at, and service tiers.

Owns the shape that `openai`, `anthropic` and `gemini` fill. Readers and folds are pure: members or events in,
readings out. They never raise for what a provider sent and never keep text of it.
"""

from __future__ import annotations

from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Tuple

from aicostguard.metering.eventstream import Message
from aicostguard.metering.provider import Provider
from aicostguard.metering.values import text
from aicostguard.usage import Reading

#: tiers that are what everybody gets: not worth a key on the receipt
_PLAIN_TIERS = ("", "default", "standard", "auto", "on_demand", "unspecified", "traffic_type_unspecified")


#: formats of an answer that is fetched: its readings bill only if their id was seen pending, and once
RETRIEVALS = frozenset(
    (
        *("responses_get", "run_get", "video_get", "interactions_get", "video_job_get"),
        *("replicate_get", "replicate_stream", "dashscope_task_get", "zai_task_get", "perplexity_task_get"),
        "deleted",
    )
)

#: bytes of the request, or None; asked only when they are needed
RequestBody = Callable[[], Optional[bytes]]


class Facts(NamedTuple):
    """What a reader may look at beside the body."""

    format: str
    rules: Provider
    #: value of a response header, or None
    header: Callable[[str], Optional[str]]
    #: the request's body where it is at hand, or None
    request: RequestBody = lambda: None


def over(identifier: Any, facts: Facts) -> List[Reading]:
    """Of work that has failed or was cancelled, and bills nothing: whoever waits for it hears so when it is fetched."""
    name = text(identifier)
    return [Reading(None, None, response_id=name, void=True)] if name and facts.format in RETRIEVALS else []


class Fold:
    """One stream being read: events in, readings out. A fold keeps bytes of few events, never all."""

    __slots__ = ("facts",)

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    def event(self, data: bytes) -> bool:
        """Take the data of one event. True when it was the terminal one."""
        raise NotImplementedError

    def message(self, message: Message) -> bool:
        """Take one message of an AWS event stream. True when it was the terminal one."""
        return False

    def readings(self) -> List[Reading]:
        """What the events so far amount to; empty when they bill nothing."""
        raise NotImplementedError

    def unfinished(self) -> bool:
        """True when the events so far show that more was to come, however cleanly the bytes ended."""
        return False


class Format(NamedTuple):
    """One row of the table of formats."""

    name: str
    operation: Optional[str]
    #: the member of a whole body that holds the usage
    usage: str
    #: other members of a whole body that `read` wants
    members: Tuple[str, ...]
    #: bytes in a whole body that mean that deeper content counts (searches made by the provider's tools)
    marks: Tuple[bytes, ...]
    #: members of a whole body → readings
    read: Callable[[Mapping[str, Any], Facts], List[Reading]]
    #: a stream event can matter only if one of these is in it
    needles: Tuple[bytes, ...]
    #: data of an event that says nothing but that the stream is over
    sentinel: Optional[bytes]
    fold: Callable[[Facts], Fold]
    #: how many events at the start are looked at without a needle (model, id, errors)
    head: int
    #: the provider's definition
    docs: str
    #: a whole body that is a JSON array → readings
    array: Optional[Callable[[bytes, Facts], List[Reading]]] = None
    #: a stream may be lines of JSON
    lines: bool = False
    #: the messages of an AWS event stream hold raw bytes of the answer, whatever their framing
    raw_payload: bool = False
    #: messages of an AWS event stream can matter only with one of these among their headers
    wanted: Tuple[bytes, ...] = ()
    #: (the response's name, the URL's, the request) → the model; None: the first of response, request and URL
    model: Optional[Callable[[Optional[str], Optional[str], RequestBody], Optional[str]]] = None
    #: True when the headers of this response tell all, so that its body need not be parsed
    bodiless: Optional[Callable[[Facts], bool]] = None
    #: lines of JSON are those of a file of results: each is whole, and they may be fetched again
    file: bool = False
    #: bytes that are neither JSON nor events may come (sound, plain text): they are not even looked at
    opaque: bool = False
    #: bytes of a whole body that are held, where large ones say what matters at their ends
    most: Optional[int] = None


def tier(value: object) -> Optional[str]:
    """The tier that served a response, lower-case; None for the usual one."""
    named = text(value)
    if named is None:
        return None
    named = named.lower()
    return None if named in _PLAIN_TIERS else named


def is_error(members: Mapping[str, Any], *substance: str) -> bool:
    """True for an error body: it has an `error` and none of the members that an answer has."""
    return bool(members.get("error")) and not any(members.get(name) for name in substance)
