"""The text of a request and of a response, for an estimate where the provider has told no usage.

Owns which members of a body are text that a model reads or writes: the names that carry text are few, and much the
same in every format. Pure; run only when usage is missing, off the caller's thread, and what it finds is counted and
let go. If it is wrong, an estimate is: it is marked as one.
"""

from __future__ import annotations

from typing import Any, Dict, Iterator, List, NamedTuple, Optional

from aicostguard.metering.framing import Events, data_of
from aicostguard.metering.values import parse

#: members of a response that hold what the model has written
_WRITTEN = frozenset(
    (
        "content", "text", "arguments", "partial_json", "thinking", "reasoning_content", "reasoning", "refusal",
        "delta", "response", "generation", "name",
    )
)  # fmt: skip
#: members of a request that hold what the model reads
_READ = _WRITTEN | {"input", "prompt", "system", "instructions", "output", "description"}
#: members that are walked into
_WAYS = _READ | {
    "messages", "contents", "parts", "choices", "message", "tool_calls", "function", "function_call", "content_block",
    "candidates", "item", "systemInstruction", "system_instruction", "tool_plan", "outputs", "functionCall",
    "functionResponse",
}  # fmt: skip
#: members of a request that are written out as JSON for the model
_SCHEMAS = frozenset(("tools", "functions", "response_format", "toolConfig", "json_schema"))
#: members of either whose value, where it is no text, the model reads or writes as JSON
_VALUES = frozenset(("args", "input", "response"))
#: what a model reads besides text, and what a body only points at: how much that is does not stand in the body
_UNKNOWN = frozenset(
    (
        "image_url", "image", "images", "input_image", "input_audio", "audio", "file", "input_file", "file_id",
        "document", "source", "inlineData", "inline_data", "fileData", "file_data", "video", "video_url", "file_url",
        "previous_response_id", "conversation", "cachedContent", "cached_content", "container", "documents",
        "vector_store_ids", "mcp_servers", "data_sources",
    )
)  # fmt: skip
#: types of parts and tools of which the same is true
_UNKNOWN_TYPES = (
    "web_search", "file_search", "code_interpreter", "computer", "image", "mcp", "code_execution", "web_fetch",
)  # fmt: skip
_NOTHING: Any = (None, "", [], {})
#: deeper than this no format puts text
_DEPTH = 12


class Text(NamedTuple):
    """What was found: pieces of text, schemas as JSON, and in how many messages."""

    pieces: List[str]
    schemas: List[str]
    messages: int


class _Unknown(Exception):
    """Something is read whose size cannot be known."""


def of_request(body: bytes) -> Optional[Text]:
    """The text that the model reads; None when not all that it reads stands in the body."""
    given = parse(body)
    if type(given) is not dict:
        return None
    found = Text([], [], 1)
    try:
        _read(given, found, 0)
    except _Unknown:
        return None
    lists = [given[key] for key in ("messages", "contents", "input") if isinstance(given.get(key), list)]
    return found._replace(messages=max(1, sum(map(len, lists))))


def _read(value: Any, found: Text, depth: int) -> None:
    if depth > _DEPTH:
        raise _Unknown
    if isinstance(value, list):
        for item in value:
            if isinstance(item, str):
                found.pieces.append(item)
            else:
                _read(item, found, depth + 1)
    elif isinstance(value, dict):
        kind = value.get("type")
        if isinstance(kind, str) and kind.startswith(_UNKNOWN_TYPES):
            raise _Unknown
        for key, item in value.items():
            if key in _UNKNOWN and item not in _NOTHING:
                raise _Unknown
            if key in _SCHEMAS:
                _tools(item)
                found.schemas.append(_json(item))
            elif isinstance(item, str):
                if key in _READ:
                    found.pieces.append(item)
            elif key in _VALUES and isinstance(item, dict):
                found.pieces.append(_json(item))
            elif key in _WAYS:
                _read(item, found, depth + 1)


def _tools(value: Any) -> None:
    """Tools that the provider runs bring in what nobody can see."""
    for tool in value if isinstance(value, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        if isinstance(kind, str) and kind.startswith(_UNKNOWN_TYPES):
            raise _Unknown
        if isinstance(tool, dict) and any(key.startswith(("google", "code_e", "codeE", "url")) for key in tool):
            raise _Unknown


def _json(value: Any) -> str:
    import json

    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def of_response(data: bytes) -> Optional[Text]:
    """The text that the model has written: in a whole body, or in the events of a stream, which may be cut anywhere.

    None for a body that is cut.
    """
    found = Text([], [], 1)
    try:
        for body in _bodies(data):
            _write(body, found.pieces, 0)
    except _Unknown:
        return None
    return found


def _bodies(data: bytes) -> Iterator[Dict[str, Any]]:
    if data.lstrip()[:1] in (b"{", b"["):
        whole = parse(data)
        if whole is None:
            raise _Unknown
        for body in whole if isinstance(whole, list) else [whole]:
            if type(body) is dict:
                yield body
        return
    events = Events()
    for block in [*events.feed(data), events.rest()]:
        event = parse(data_of(block))
        if type(event) is not dict:
            continue
        kind = event.get("type")
        # OpenAI's Responses say everything again when a part is done.
        if not (isinstance(kind, str) and kind.startswith("response.")) or kind.endswith(".delta"):
            yield event


def _write(value: Any, pieces: List[str], depth: int) -> None:
    if isinstance(value, list):
        for item in value:
            _write(item, pieces, depth + 1)
    elif isinstance(value, dict) and depth <= _DEPTH:
        for key, item in value.items():
            if isinstance(item, str):
                if key in _WRITTEN:
                    pieces.append(item)
            elif key in _VALUES and isinstance(item, dict):
                pieces.append(_json(item))
            elif key in _WAYS:
                _write(item, pieces, depth + 1)
