"""One request and its answer as values: what the formats are functions of.

Owns `Request`, `Call`, `Reply`, and the numbers of a call (`Call.usage`). No sockets, no threads. The numbers are
derived from the request's bytes, so that every request has others and the same request has the same; if they
stop being consistent (a part above its whole), the simulator says what no provider says.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import time
from typing import Any, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence, Tuple

from aicostguard.simulator.behaviour import Behaviour
from aicostguard.simulator.count import Billed
from aicostguard.usage import INPUT_PARTS, OUTPUT_PARTS, Usage

_serial = itertools.count(1)


class Request(NamedTuple):
    """One HTTP request. `headers`: lower-case names, last value wins; `raw_headers`: as sent."""

    method: str
    target: str
    path: str
    query: str
    headers: Mapping[str, str]
    raw_headers: Tuple[Tuple[str, str], ...]
    body: bytes
    provider: str
    http_version: str = "HTTP/1.1"


class Reply(NamedTuple):
    """The answer: either `body`, or `events` that go out one by one. `bills` is what it costs."""

    status: int = 200
    content_type: str = "application/json"
    body: bytes = b""
    events: Optional[Iterable[bytes]] = None
    bills: Sequence[Billed] = ()
    headers: Sequence[Tuple[str, str]] = ()
    behaviour: Behaviour = Behaviour()
    #: the stream breaks off with an error event: billed, but never complete
    broken: bool = False


#: where a request may name its limit of output tokens, and how
_CONFIGS = ("generationConfig", "generation_config", "inferenceConfig", "textGenerationConfig")
_LIMITS = (
    "max_completion_tokens", "max_tokens", "max_output_tokens", "maxOutputTokens", "maxTokens", "maxTokenCount",
    "max_gen_len",
)  # fmt: skip


class Refused(ValueError):
    """The request cannot be answered as asked: 400 with this text."""


class Store:
    """What a provider remembers between requests: responses and batches, bounded."""

    def __init__(self, most: int = 2_000) -> None:
        self._most = most
        self._items: Dict[str, Any] = {}

    def put(self, key: str, value: Any) -> None:
        """Remember under an id; the oldest makes room."""
        while len(self._items) >= self._most:
            del self._items[next(iter(self._items))]
        self._items[key] = value

    def get(self, key: str) -> Any:
        """What was stored, or None."""
        return self._items.get(key)

    def pop(self, key: str) -> Any:
        """Forget."""
        return self._items.pop(key, None)


class Call:
    """One request on its way through a format. `params` are the parts of the path that the route names."""

    __slots__ = ("request", "behaviour", "params", "json", "file", "store", "seed", "serial", "created", "format")

    def __init__(
        self, request: Request, behaviour: Behaviour, params: Mapping[str, Optional[str]], fmt: str, store: Store
    ) -> None:
        self.request = request
        self.behaviour = behaviour
        self.params = params
        self.format = fmt
        self.store = store
        #: the members of the body, or the fields of a form
        self.json: Dict[str, Any]
        #: the last file of a form
        self.file: Optional[bytes] = None
        body = request.body
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            boundary = body.split(b"\r\n", 1)[0]
            if not boundary:
                raise Refused("the form is empty")
            self.json, self.file = _form(body, boundary)
            body = body.replace(boundary, b"--")  # the boundary is another for every request
        else:
            self.json = _object(body)
        digest = hashlib.blake2b(body, digest_size=16, key=request.path.encode()[:64]).digest()
        self.seed = int.from_bytes(digest, "big")
        self.serial = next(_serial)
        self.created = int(time.time())

    @property
    def provider(self) -> str:
        """The provider whose host was asked."""
        return self.request.provider

    @property
    def streamed(self) -> bool:
        """True when the body asks for a stream."""
        return self.json.get("stream") is True

    def name(self, prefix: str) -> str:
        """An id for something new, unique in this process."""
        return "%s%016x%08x" % (prefix, self.seed & 0xFFFFFFFFFFFFFFFF, self.serial)

    def model(self, default: str = "simulated-model") -> str:
        """The model of the response: the behaviour's, else the one asked for."""
        asked = self.json.get("model")
        return self.behaviour.model or (asked if isinstance(asked, str) and asked else default)

    def pieces(self) -> List[str]:
        """The answer's text in as many pieces as there are content chunks."""
        count = max(1, self.behaviour.chunks)
        text = self.behaviour.text
        if text is None:
            return ["word%d " % i for i in range(count)]
        size = max(1, -(-len(text) // count))
        return [text[i : i + size] for i in range(0, len(text), size)] or [""]

    def text(self) -> str:
        """The answer's whole text."""
        return self.behaviour.text if self.behaviour.text is not None else "".join(self.pieces())

    def tool_inputs(self) -> List[Any]:
        """The arguments of the tool calls as values, for formats that state them so. Raises Refused."""
        try:
            return [json.loads(arguments) for arguments in self.behaviour.tool_calls]
        except ValueError:
            raise Refused("%s states tool calls as JSON; the arguments are not" % self.format) from None

    def usage(self, always: Sequence[str], sometimes: Sequence[str] = ()) -> Usage:
        """The numbers of this call. `always`: fields that the format always states; `sometimes`: those it may state.

        Input stays within the bytes of the request and output within the request's own limit, as with a real
        provider. Raises Refused when the behaviour wants a field that the format cannot state, or numbers that
        cannot be true.
        """
        forced = dict(self.behaviour.usage or {})
        unsayable = [key for key in forced if key not in always and key not in sometimes]
        if unsayable:
            raise Refused("%s %s cannot state %s" % (self.provider, self.format, ", ".join(unsayable)))
        values = _derive(self.seed, len(self.request.body), self._limit(), always, sometimes, bool(forced))
        for whole, parts in (("input_tokens", INPUT_PARTS), ("output_tokens", OUTPUT_PARTS)):
            if whole in forced or whole not in values:
                continue
            # a forced part pushes the whole up, so that asking for one number never makes the answer absurd
            values[whole] += sum(forced.get(part, 0) for part in parts)
        values.update(forced)
        _check(values)
        return Usage(**values)

    def _limit(self) -> int:
        configs = [self.json, *(self.json.get(name) for name in _CONFIGS)]
        for config in configs:
            for name in _LIMITS:
                value = config.get(name) if isinstance(config, dict) else None
                if type(value) is int and value > 0:
                    return value
        return 2000

    def bill(self, usage: Optional[Usage], model: Optional[str], streamed: bool = False, **more: Any) -> Billed:
        """The row of the count for this call."""
        tag = self.request.headers.get("x-sim-tag")
        return Billed(self.provider, self.format, model, usage, tag, streamed, **more)


def _form(body: bytes, boundary: bytes) -> Tuple[Dict[str, Any], Optional[bytes]]:
    fields: Dict[str, Any] = {}
    file: Optional[bytes] = None
    for part in body.split(boundary)[1:-1]:
        head, _, value = part[2:-2].partition(b"\r\n\r\n")  # a line end stands before each boundary, and behind it
        named = re.search(rb'name="?([^";\r\n]+)"?', head)
        if b"filename=" in head:
            file = value
        elif named is not None:
            fields[named.group(1).decode("utf-8", "replace")] = value.decode("utf-8", "replace")
    return fields, file


def _object(body: bytes) -> Dict[str, Any]:
    if not body:
        return {}
    try:
        value = json.loads(body)
    except ValueError:
        raise Refused("the body is not JSON") from None
    if not isinstance(value, dict):
        raise Refused("the body is not a JSON object")
    return value


def _derive(
    seed: int, size: int, limit: int, always: Sequence[str], sometimes: Sequence[str], bare: bool
) -> Dict[str, int]:
    values = dict.fromkeys(always, 0)
    if "input_tokens" in values:
        values["input_tokens"] = 7 + seed % max(1, min(2000, size) - 7)
    if "output_tokens" in values:
        least, most = min(7, limit), min(2000, limit)
        values["output_tokens"] = least + (seed >> 24) % (most - least + 1)
    if bare:
        return values
    cached = "cache_read_input_tokens"
    if (cached in always or cached in sometimes) and seed >> 48 & 3 == 0:
        values[cached] = values["input_tokens"] * (1 + (seed >> 50 & 1)) // 4
    written = "cache_creation_input_tokens"
    if written in always and seed >> 52 & 3 == 0:
        values[written] = values["input_tokens"] // 4
    reasoning = "reasoning_output_tokens"
    if (reasoning in always or reasoning in sometimes) and seed >> 54 & 3 == 0:
        values[reasoning] = values["output_tokens"] // 2
    return values


def _check(values: Mapping[str, int]) -> None:
    read, written = values.get("cache_read_input_tokens", 0), values.get("cache_creation_input_tokens", 0)
    if "input_tokens" in values and read + written > values["input_tokens"]:
        raise Refused("more tokens cached and written than there is input")
    for whole, parts in (("input_tokens", INPUT_PARTS), ("output_tokens", OUTPUT_PARTS)):
        for part in parts:
            if whole in values and values.get(part, 0) > values[whole]:
                raise Refused("%s exceeds %s" % (part, whole))
    if values.get("cache_creation_1h_input_tokens", 0) > written:
        raise Refused("cache_creation_1h_input_tokens exceeds cache_creation_input_tokens")


def dumps(value: Any) -> bytes:
    """Compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def sse(value: Any, event: Optional[str] = None) -> bytes:
    """One server-sent event."""
    if event is None:
        return b"data: " + dumps(value) + b"\n\n"
    return b"event: " + event.encode() + b"\ndata: " + dumps(value) + b"\n\n"


SSE = "text/event-stream; charset=utf-8"
