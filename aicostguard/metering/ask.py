"""Asking for usage on a chat stream that did not ask, and hiding what comes only because we asked.

Owns two pure functions on bytes: a request's body → the body that asks, and a response's bytes → the same bytes without
the extra chunk. Used only under `AICG_STREAM_USAGE=request`. Never changes a body that asks already, that says it wants
no usage, or that is no JSON object; never hides a chunk that has choices. If it breaks, a program that opted in sees a
chunk without choices, or the provider refuses its request.

https://developers.openai.com/api/reference/resources/chat (stream_options.include_usage): "an additional chunk will be
streamed before the `data: [DONE]` message. The `usage` field on this chunk shows the token usage statistics for the
entire request, and the `choices` field will always be an empty array."
"""

from __future__ import annotations

import json
import re
from typing import Any, Callable, Dict, List, Mapping, Optional

from aicostguard.metering.endpoints import Endpoint
from aicostguard.metering.framing import BLANK, data_of
from aicostguard.metering.providers import rules
from aicostguard.metering.values import mapping, parse

#: bytes of an event that is not complete which are held back; the extra chunk is far below it
HELD = 16 * 1024
#: the member that asks
OPTIONS = "stream_options"
_ASK = "include_usage"

#: headers whose value depends on the body: to change the body would break what they promise
_PROMISES = ("content-digest", "digest", "content-md5", "signature", "signature-input", "x-amz-content-sha256")
#: schemes of `Authorization` that sign the request
_SIGNATURES = ("aws4-", "aws ", "signature ", "hmac", "tc3-", "acs3-", "bce-")


def worth_asking(endpoint: Endpoint) -> bool:
    """True where a chat stream names its usage only when asked."""
    return endpoint.format == "chat" and not rules(endpoint.provider).tells_usage


def signed(header: Callable[[str], Optional[str]]) -> bool:
    """True when the request carries a digest or a signature of its body, or a body that is encoded."""
    if any(header(name) is not None for name in _PROMISES):
        return True
    if (header("content-encoding") or "identity").strip().lower() != "identity":
        return True
    return (header("authorization") or "").lower().startswith(_SIGNATURES)


def options(body: Mapping[str, Any]) -> Optional[Dict[str, Any]]:
    """The `stream_options` with which this request would ask; None when it is none, or has decided for itself."""
    if body.get("stream") is not True:
        return None
    given = body.get(OPTIONS)
    if given is None:
        return {_ASK: True}
    return {**given, _ASK: True} if isinstance(given, dict) and _ASK not in given else None


def asking(body: bytes) -> Optional[bytes]:
    """The body that asks for usage; None when this one is to be left alone. All else in it stays as it is."""
    given = parse(body)
    wanted = options(given) if type(given) is dict else None
    if wanted is None:
        return None
    if OPTIONS not in given:
        # Written before the last brace: no other byte changes.
        end = body.rindex(b"}")
        return b'%s,"stream_options":{"include_usage":true}%s' % (body[:end], body[end:])
    return json.dumps({**given, OPTIONS: wanted}, separators=(",", ":"), ensure_ascii=False).encode()


#: "All other chunks will also include a `usage` field, but with a null value." No quote inside a text is bare
_NULL = re.compile(rb',\s?"usage":\s?null')


class Hidden:
    """A stream's bytes without what was asked for. Fed in order, split anywhere.

    Whole events pass at once. Of an event that is not complete up to `HELD` bytes wait for their rest, because what
    has been shown cannot be taken back; nobody can read half an event anyway.
    """

    __slots__ = ("held", "_through", "_off", "_begun")

    def __init__(self) -> None:
        #: what waits for the rest of its event
        self.held = b""
        #: the rest of an event too long to be held
        self._through = False
        #: no event stream
        self._off = False
        self._begun = False

    def show(self, data: bytes) -> bytes:
        """What may be seen now."""
        if self._off:
            return data
        data = self.held + data
        if not self._begun:
            start = data.lstrip()
            self._begun = bool(start)
            if start[:1] in (b"{", b"["):
                self._off, self.held = True, b""
                return data
        shown: List[bytes] = []
        at = 0
        for end in _ends(data):
            block, at = data[at:end], end
            if self._through or not _extra(block):
                shown.append(_without_null(block))
            self._through = False
        rest, self.held = data[at:], b""
        if self._through or len(rest) > HELD or rest.startswith(b"data: ["):
            self._through = bool(rest)
            shown.append(rest)
        else:
            self.held = rest
        return b"".join(shown)

    def rest(self) -> bytes:
        """What was held back at the end: some servers leave out the last blank line."""
        rest, self.held = self.held, b""
        return b"" if _extra(rest) else _without_null(rest)


def _without_null(block: bytes) -> bytes:
    return _NULL.sub(b"", block, 1) if b'"usage"' in block and b'"choices"' in block else block


def _ends(data: bytes) -> List[int]:
    """Where each event that is complete ends, its blank line included."""
    if b"\r" in data:
        # A last CR may be half of a CRLF.
        return [found.end() for found in re.finditer(BLANK, data) if found.end() < len(data) or data[-1:] == b"\n"]
    ends = []
    at = data.find(b"\n\n")
    while at >= 0:
        ends.append(at + 2)
        at = data.find(b"\n\n", at + 2)
    return ends


def _extra(block: bytes) -> bool:
    """True for the chunk that has usage and no choices, and is no error."""
    if b'"usage"' not in block or b'"choices"' not in block:
        return False
    chunk = mapping(parse(data_of(block.strip())))
    return chunk.get("choices") == [] and bool(mapping(chunk.get("usage"))) and not chunk.get("error")
