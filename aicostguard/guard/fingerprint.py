"""What a request asks for, as a hash: whether two calls ask for the same.

Owns which parts of a request make it another one. The hash is keyed with bytes of this process, never leaves it, and
cannot be turned back or compared elsewhere. Computed only while a guard looks for loops.

Everything in the body counts, whoever is named as its user included, but for the ids that tie a tool's result to its
call. When the last thing said is a tool's result, what counts is the task up to its last human turn, that tool call and
that result: an agent that repeats a failing call sends a longer conversation each time and is the same loop.
"""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, Iterator, List, Optional

#: bodies beyond it are not hashed: uploads, whose repetition is not an agent's
MOST = 4_000_000

_KEY = os.urandom(32)
#: in every body that ends with a tool's result: what has none of them is hashed as it is
_MARKS = (b'"tool"', b"tool_result", b"toolResult", b"_output", b"unctionResponse", b"function_response", b'"function"')
#: members that hold the conversation
_TURNS = ("messages", "input", "contents")
#: members that hold what a turn is made of
_PARTS = ("content", "parts", "output")
#: what ties a result to its call
_IDS = frozenset(("id", "tool_call_id", "tool_use_id", "toolUseId", "call_id"))
_RESULTS = ("tool_result", "web_search_tool_result")
_CALLS = ("tool_use", "function_call", "tool_call", "custom_tool_call", "local_shell_call", "mcp_call")
_CALL_MEMBERS = ("functionCall", "function_call", "toolUse")
_RESULT_MEMBERS = ("functionResponse", "function_response", "toolResult")


def fingerprint(format: str, body: bytes) -> Optional[bytes]:  # noqa: A002  its name elsewhere
    """16 bytes that are equal for two requests of one format that ask for the same; None when nobody can tell."""
    if not body or len(body) > MOST:
        return None
    if body[:2] == b"--":
        # A multipart form: its boundary is drawn anew for every request.
        body = body.replace(body.partition(b"\r\n")[0], b"--")
    elif any(mark in body for mark in _MARKS):
        body = _essence(body)
    return hashlib.blake2b(body, digest_size=16, key=_KEY, person=format.encode()[:16]).digest()


def _essence(body: bytes) -> bytes:
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError):
        return body
    if type(whole) is not dict:
        return body
    name = next((name for name in _TURNS if type(whole.get(name)) is list and whole[name]), None)
    if name is None:
        return body
    whole[name] = _turns(whole[name])
    return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()


def _turns(turns: List[Any]) -> List[Any]:
    """The turns without ids; of a conversation that ends with a tool's result, the task and the last step."""
    end = len(turns)
    while end and _is_result(turns[end - 1]):
        end -= 1
    start = end
    while start and _is_models(turns[start - 1]):
        start -= 1
    if end == len(turns) or start == end:
        return [_without_ids(turn) for turn in turns]
    human = start
    while human and (_is_result(turns[human - 1]) or _is_models(turns[human - 1])):
        human -= 1
    # What the model says around its calls differs from time to time, as do steps that it took at once with it.
    last = [_part(call) for turn in turns[start:end] for call in _calls(turn)]
    return [_without_ids(turn) for turn in [*turns[:human], *last, *turns[end:]]]


def _parts(turn: Any) -> Iterator[Any]:
    if type(turn) is dict:
        for name in _PARTS:
            if type(turn.get(name)) is list:
                yield from turn[name]


def _is_result(turn: Any) -> bool:
    if type(turn) is not dict:
        return False
    kind = turn.get("type")
    if turn.get("role") in ("tool", "function") or (type(kind) is str and kind.endswith("call_output")):
        return True
    return any(
        type(part) is dict and (part.get("type") in _RESULTS or any(name in part for name in _RESULT_MEMBERS))
        for part in _parts(turn)
    )


def _is_models(turn: Any) -> bool:
    if type(turn) is not dict:
        return False
    return turn.get("role") in ("assistant", "model") or turn.get("type") in _CALLS or turn.get("type") == "reasoning"


def _calls(turn: Any) -> Iterator[Any]:
    """The tool calls of a model's turn."""
    if turn.get("type") in _CALLS:
        yield turn
    for name in ("tool_calls", "function_call"):
        if name in turn and turn.get("type") not in _CALLS:
            yield {name: turn[name]}
    for part in _parts(turn):
        if type(part) is dict and (part.get("type") in _CALLS or any(name in part for name in _CALL_MEMBERS)):
            yield part


def _without_ids(turn: Any) -> Any:
    """A turn without the ids of its calls and results. A tool's own arguments and results are not looked into."""
    if type(turn) is not dict:
        return turn
    bare = {name: value for name, value in turn.items() if name not in _IDS}
    for name in (*_PARTS, "tool_calls"):
        if type(bare.get(name)) is list:
            bare[name] = [_part(part) for part in bare[name]]
    return bare


def _part(part: Any) -> Any:
    if type(part) is not dict:
        return part
    bare = {name: value for name, value in part.items() if name not in _IDS}
    for name in (*_CALL_MEMBERS, *_RESULT_MEMBERS):
        if type(bare.get(name)) is dict:
            bare[name] = {inner: value for inner, value in bare[name].items() if inner not in _IDS}
    return bare
