"""Top-level members of a large JSON object without reading all of it.

Owns the proof that a `"usage"` found in the bytes is the response's own and not one inside a tool's
arguments or a message. Never reads a member at another depth. If it does, user content becomes money.

The proof. Every unescaped quote in JSON delimits a string, so `"usage"` with a comma or a brace before
it and a colon behind it is a key. Put `{` before the text from that key to the end of the body: it parses
as one object that ends exactly where the body ends only when no bracket opened before the key was left
to close, apart from the outermost. The same from the other side: the text from the start of the body to
the end of the member's value, closed by one `}`, parses only when the member is at depth one. Both hold
for bodies that are valid JSON; a body that is known to be cut is parsed whole, and fails.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Optional, Tuple

from aicostguard.metering.values import parse, parse_from

#: below this many bytes a plain parse is cheaper than looking for keys
SMALL = 2048
#: how far from the start a member is looked for from the front
_FRONT = 8192
#: how far from the end a member is looked for from the back
_TAIL = 65536
#: how many places of one key are tried; a body made to defeat the scan falls back to a plain parse
_TRIES = 4


def members(
    body: bytes, main: str, others: Iterable[str] = (), marks: Iterable[bytes] = ()
) -> Optional[Dict[str, Any]]:
    """Members of the object `body`: at least `main` and `others` where they exist; None when it is no object.

    `main` is the key that sits near the end of the provider's bodies (`usage`). `marks` are byte strings
    whose presence means that deeper content matters: then everything is parsed.
    """
    if len(body) <= SMALL or any(mark in body for mark in marks):
        value = parse(body)
        return value if type(value) is dict else None
    found = _tail(body, main)
    if found is None:
        return _whole(body)
    head: Optional[str] = None
    for key in others:
        if key in found:
            continue
        if head is None:
            head = body[:_FRONT].decode("utf-8", "replace")
        more = _front(head, key) or _tail(body, key)
        if more is not None:
            found.update(more)
        elif b'"%s"' % key.encode() in body:
            # Perhaps a top-level member in the middle: only a full parse tells.
            return _whole(body)
    return found


def members_of_ends(head: bytes, tail: bytes, main: str, others: Iterable[str]) -> Dict[str, Any]:
    """The same for a body whose middle was let go: what the two ends prove, and nothing else."""
    found = _tail(tail, main) or {}
    front = head[:_FRONT].decode("utf-8", "replace")
    for key in others:
        if key not in found:
            found.update(_front(front, key) or {})
    return found


def members_within(body: bytes, path: Tuple[str, ...], main: str, others: Iterable[str]) -> Optional[Dict[str, Any]]:
    """The members of an object inside objects, at the end of `body`; None when that cannot be proved.

    The same proof one level deeper for each name of `path`: the text from the key to the end parses behind as many
    opened objects only when the key stands at that depth and nothing but objects is open around it.
    """
    before = b"{" + b"".join(b'"%s":{' % name.encode() for name in path)
    found: Dict[str, Any] = {}
    for key in (main, *others):
        if key in found:
            continue
        value: Any = _tail(body, key, before)
        for name in path:
            value = value.get(name) if type(value) is dict else None
        if type(value) is not dict:
            return None
        found.update(value)
    return found


def _whole(body: bytes) -> Optional[Dict[str, Any]]:
    value = parse(body)
    return value if type(value) is dict else None


def _tail(body: bytes, key: str, before: bytes = b"{") -> Optional[Dict[str, Any]]:
    """Every member from the last top-level `key` to the end of the body."""
    quoted = b'"%s"' % key.encode()
    at = len(body)
    for _ in range(_TRIES):
        at = body.rfind(quoted, max(0, len(body) - _TAIL), at)
        if at < 0:
            return None
        if body[max(0, at - 64) : at].rstrip()[-1:] in (b",", b"{"):
            value = parse(before + body[at:])
            if type(value) is dict and (key in value or len(before) > 1):
                return value
    return None


def _front(head: str, key: str) -> Optional[Dict[str, Any]]:
    """Every member from the start of the body to the first top-level `key`."""
    quoted = '"%s"' % key
    at = -1
    for _ in range(_TRIES):
        at = head.find(quoted, at + 1)
        if at < 0:
            return None
        colon = _past_space(head, at + len(quoted))
        if head[colon : colon + 1] != ":":
            continue
        end = parse_from(head, _past_space(head, colon + 1))[1]
        if end < 0:
            continue
        value = parse(head[:end] + "}")
        if type(value) is dict and key in value:
            return value
    return None


def _past_space(head: str, at: int) -> int:
    while head[at : at + 1] in (" ", "\t", "\r", "\n"):
        at += 1
    return at
