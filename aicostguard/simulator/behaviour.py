"""How the simulator is told to behave: the keys of a behaviour, their defaults, and who decides for one request.

Owns `Behaviour` and `Steering`. A behaviour is data; nothing here touches a socket. For one request the keys are
merged: the default, over it the next entry of the script, over that the request header `x-sim`. If this breaks,
a test gets another answer than the one it asked for.
"""

from __future__ import annotations

import base64
import collections
import hashlib
import json
import threading
from typing import Any, Callable, Deque, Dict, Iterable, Mapping, NamedTuple, Optional, Tuple

from aicostguard.usage import Usage

ENCODINGS = ("identity", "gzip", "deflate", "br", "zstd")

#: how many calls may be in the middle of their failing attempts at once; the oldest is forgotten beyond that
MAX_PENDING = 10_000
#: no number of a behaviour is larger: a pause of some eleven days, a gigabyte
MOST = 10**9


class BadBehaviour(ValueError):
    """A key or value that no behaviour has; its text says which. Answered with 400 over HTTP."""


class Behaviour(NamedTuple):
    """What one response is to be like. Units: bytes and milliseconds. Defaults: a plain, billable success."""

    #: fields of `Usage` to report; missing ones are derived from the request
    usage: Optional[Mapping[str, int]] = None
    #: the response says nothing about usage (`usage_missing` on the receipt); it is billed all the same
    no_usage: bool = False
    model: Optional[str] = None
    text: Optional[str] = None
    #: number of content chunks of a stream
    chunks: int = 4
    #: the body goes out in HTTP chunks (HTTP/2: data frames) of so many bytes, whatever they cut through
    chunk_size: int = 0
    #: pause between events
    delay_ms: float = 0
    #: pause before the first byte
    first_delay_ms: float = 0
    encoding: str = "identity"
    status: int = 200
    #: body of an error response, or of the error event of a stream: JSON value; without it the provider's usual one
    error: Any = None
    retry_after: Optional[str] = None
    #: reset the connection after so many body bytes; below zero: before the status line
    reset_after: Optional[int] = None
    #: close the connection in good order after so many body bytes, without the end; below zero: before the status line
    cut_after: Optional[int] = None
    #: so many attempts of a call fail (with `status`, or 503) before one succeeds
    fail_times: int = 0
    #: send (or withhold) the usage of a stream whatever the request says
    include_usage: Optional[bool] = None
    #: arguments texts, one tool call each
    tool_calls: Tuple[str, ...] = ()
    service_tier: Optional[str] = None
    #: sent as it is instead of the provider's answer; billed only when `usage` is given
    body: Optional[bytes] = None
    headers: Mapping[str, str] = {}
    #: 307 to this path; an empty text means the same path
    redirect: Optional[str] = None
    #: how often a background response is still in progress when it is fetched
    polls: int = 1
    #: part of the input that Gemini reports apart, as `toolUsePromptTokenCount`
    tool_use_prompt_tokens: int = 0


def _usage(value: Any) -> Dict[str, int]:
    if not isinstance(value, Mapping) or not all(type(n) is int and n >= 0 for n in value.values()):
        raise BadBehaviour("usage must be an object of counts")
    unknown = [key for key in value if key not in Usage._fields]
    if unknown:
        raise BadBehaviour("usage has no field %s" % ", ".join(map(repr, unknown)))
    return dict(value)


def _texts(value: Any) -> Tuple[str, ...]:
    if not isinstance(value, (str, list, tuple)):
        raise BadBehaviour("tool_calls must be a text or a list of texts, not %s" % ascii(value)[:64])
    return (value,) if isinstance(value, str) else tuple(map(str, value))


def _headers(value: Any) -> Dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for row in value.items() for text in row):
        raise BadBehaviour("headers must be an object of texts, not %s" % ascii(value)[:64])
    return dict(value)


def _encoding(value: Any) -> str:
    if value not in ENCODINGS:
        raise BadBehaviour("encoding must be one of " + ", ".join(ENCODINGS))
    return str(value)


def _bytes(value: Any) -> bytes:
    return bytes(value) if isinstance(value, (bytes, bytearray)) else str(value).encode()


def _number(key: str, least: float, *kinds: type) -> Callable[[Any], Any]:
    """Takes what is of one of these types and no less than `least`."""

    def parse(value: Any) -> Any:
        if type(value) not in kinds or not least <= value <= MOST:
            what = "a number" if float in kinds else "a whole number"
            raise BadBehaviour("%s must be %s from %s to %s, not %s" % (key, what, least, MOST, ascii(value)[:64]))
        return value

    return parse


def _of(key: str, kind: type, what: str) -> Callable[[Any], Any]:
    """Takes what is of this type."""

    def parse(value: Any) -> Any:
        if not isinstance(value, kind):
            raise BadBehaviour("%s must be %s, not %s" % (key, what, ascii(value)[:64]))
        return value

    return parse


_PARSERS: Dict[str, Any] = {
    "usage": _usage,
    "tool_calls": _texts,
    "encoding": _encoding,
    "body": _bytes,
    "retry_after": str,
    "redirect": lambda value: "" if value is True else str(value),
    "headers": _headers,
    "status": _number("status", 200, int),
}
for _key in ("chunks", "chunk_size", "fail_times", "polls", "tool_use_prompt_tokens"):
    _PARSERS[_key] = _number(_key, 0, int)
for _key in ("delay_ms", "first_delay_ms"):
    _PARSERS[_key] = _number(_key, 0, int, float)
for _key in ("reset_after", "cut_after"):
    _PARSERS[_key] = _number(_key, -1, int)
for _key in ("no_usage", "include_usage"):
    _PARSERS[_key] = _of(_key, bool, "true or false")
for _key in ("model", "text", "service_tier"):
    _PARSERS[_key] = _of(_key, str, "a text")


def clean(values: Mapping[str, Any]) -> Dict[str, Any]:
    """The keys of a behaviour, checked. `body_base64` stands for `body` where bytes cannot travel.

    Raises BadBehaviour for an unknown key or a value that the key cannot take.
    """
    cleaned: Dict[str, Any] = {}
    for key, value in values.items():
        if key == "body_base64":
            try:
                cleaned["body"] = base64.b64decode(value)
            except (TypeError, ValueError):
                raise BadBehaviour("body_base64 is not base64") from None
        elif key not in Behaviour._fields:
            raise BadBehaviour("there is no behaviour %r; known: %s" % (key, ", ".join(Behaviour._fields)))
        else:
            parse = _PARSERS.get(key)
            if value is None and Behaviour._field_defaults[key] is not None:
                raise BadBehaviour("%s may not be null: leave it out for %r" % (key, Behaviour._field_defaults[key]))
            cleaned[key] = parse(value) if parse and value is not None else value
    return cleaned


class Steering:
    """Chooses the behaviour of each request. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._default: Dict[str, Any] = {}
        self._script: Deque[Dict[str, Any]] = collections.deque()
        #: call → (failing attempts left, the script entry that said so)
        self._pending: collections.OrderedDict[str, Tuple[int, Dict[str, Any]]] = collections.OrderedDict()
        self._plain = Behaviour()

    def set_default(self, values: Mapping[str, Any]) -> None:
        """Replace the default; an empty mapping restores the plain one."""
        cleaned = clean(values)
        with self._lock:
            self._default = cleaned
            self._plain = Behaviour(**cleaned)

    def script(self, entries: Iterable[Mapping[str, Any]]) -> None:
        """Replace the script: one entry for each of the next requests. Retries of a call keep the call's entry."""
        cleaned = [clean(entry) for entry in entries]
        with self._lock:
            self._script = collections.deque(cleaned)

    def reset(self) -> None:
        """Forget default, script and attempts."""
        with self._lock:
            self._default, self._script, self._plain = {}, collections.deque(), Behaviour()
            self._pending.clear()

    def choose(self, header: Optional[str], key_parts: Tuple[Optional[str], Optional[str], str, bytes]) -> Behaviour:
        """The behaviour of one request. `key_parts`: idempotency key, tag, path, body: what makes attempts one call.

        Raises BadBehaviour when the header is not a behaviour.
        """
        if header is None and not self._script and not self._pending and not self._default.get("fail_times"):
            return self._plain
        own: Dict[str, Any] = {}
        if header is not None:
            try:
                value = json.loads(header)
            except ValueError:
                raise BadBehaviour("x-sim must be a JSON object") from None
            if not isinstance(value, dict):
                raise BadBehaviour("x-sim must be a JSON object")
            own = clean(value)
        call = _call_key(key_parts)
        with self._lock:
            left, entry = self._pending.pop(call, (None, None))
            if entry is None:
                entry = self._script.popleft() if self._script else {}
            behaviour = Behaviour(**{**self._default, **entry, **own})
            if behaviour.fail_times:
                left = behaviour.fail_times if left is None else left
                if left > 0:
                    self._pending[call] = (left - 1, entry)
                    while len(self._pending) > MAX_PENDING:
                        self._pending.popitem(last=False)
                    return behaviour._replace(status=behaviour.status if behaviour.status >= 400 else 503)
                return behaviour._replace(status=200)
            return behaviour


def _call_key(parts: Tuple[Optional[str], Optional[str], str, bytes]) -> str:
    idempotency, tag, path, body = parts
    if idempotency or tag:
        return "%s %s %s" % (path, idempotency or "", tag or "")
    return path + " " + hashlib.blake2b(body, digest_size=16).hexdigest()
