"""IBM watsonx: text generation, chat, embeddings.

Owns `input_token_count` and `generated_token_count`. In a stream the first is that of the event (only the first one
has any) and the second is that of all events so far. Chat is OpenAI's shape with another name for the model.
Definition: https://cloud.ibm.com/apidocs/watsonx-ai#text-generation
"""

from __future__ import annotations

from typing import Any, List, Mapping, Optional

from aicostguard.metering.formats import Facts, Fold, Format, is_error
from aicostguard.metering.openai import CHAT
from aicostguard.metering.values import count, mapping, parse, text
from aicostguard.usage import Reading, Usage


def _results(body: Mapping[str, Any]) -> List[Mapping[str, Any]]:
    results = body.get("results")
    return [mapping(item) for item in results] if type(results) is list else []


def _total(results: List[Mapping[str, Any]], name: str) -> Optional[int]:
    numbers = [count(item.get(name)) for item in results]
    known = [number for number in numbers if number is not None]
    return sum(known) if known else None


def read(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A whole body of text generation."""
    results = _results(body)
    if not results and (body.get("errors") or is_error(body, "results")):
        return []
    given = _total(results, "input_token_count")
    made = _total(results, "generated_token_count")
    usage = None if given is None and made is None else Usage(input_tokens=given, output_tokens=made)
    return [Reading(text(body.get("model_id")), usage)]


class GenerationFold(Fold):
    """The events of a text generation."""

    __slots__ = ("_given", "_last", "_model", "_error")

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._given: Optional[int] = None
        self._last = b""
        self._model: Optional[str] = None
        self._error = False

    def event(self, data: bytes) -> bool:
        if b'"results"' not in data:
            self._error = self._error or b'"errors"' in data
            return False
        # All but the first say 0, and are not worth a parse.
        if self._given is None or (b'"input_token_count":0' not in data and b'"input_token_count": 0' not in data):
            body = mapping(parse(data))
            given = _total(_results(body), "input_token_count")
            if given is not None:
                self._given = (self._given or 0) + given
            self._model = self._model or text(body.get("model_id"))
        self._last = data
        return False

    def readings(self) -> List[Reading]:
        if not self._last:
            return [] if self._error else [Reading(None, None)]
        made = _total(_results(mapping(parse(self._last))), "generated_token_count")
        usage = None if self._given is None and made is None else Usage(input_tokens=self._given, output_tokens=made)
        return [Reading(self._model, usage)]


def read_vectors(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A whole body of embeddings."""
    if body.get("errors"):
        return []
    given = count(body.get("input_token_count"))
    usage = None if given is None else Usage(input_tokens=given, output_tokens=0)
    return [Reading(text(body.get("model_id")), usage)]


_DOCS = "https://cloud.ibm.com/apidocs/watsonx-ai#"

GENERATION = Format(
    "watsonx", None, "results", ("model_id", "errors", "error"), (), read, (b'"results"', b'"errors"'), None,
    GenerationFold, 0, _DOCS + "text-generation",
)  # fmt: skip
EMBEDDINGS = GENERATION._replace(
    name="watsonx_embeddings", operation="embeddings", usage="input_token_count", members=("model_id", "errors"),
    read=read_vectors, docs=_DOCS + "text-embeddings",
)  # fmt: skip

FORMATS = (
    GENERATION,
    CHAT._replace(name="watsonx_chat", members=(*CHAT.members, "model_id"), docs=_DOCS + "text-chat"),
    EMBEDDINGS,
)
