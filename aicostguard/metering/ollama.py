"""Ollama's own formats: chat, generate, embed.

Owns their counts. `prompt_eval_count` is the whole prompt, with what the cache held (`prompt_eval_cached_count`); older
servers leave it out when all of it was cached, and then the input is not known. `eval_count` is all output with its
thinking. Loading a model bills nothing. Definition: https://docs.ollama.com/api/usage
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from aicostguard.metering.folds import single
from aicostguard.metering.formats import Facts, Format, is_error
from aicostguard.metering.values import count, text
from aicostguard.usage import Reading, Usage, inconsistent

_COUNTS: Dict[str, str] = {
    "prompt_eval_count": "input_tokens",
    "prompt_eval_cached_count": "cache_read_input_tokens",
    "eval_count": "output_tokens",
}
#: a request without a prompt loads or unloads the model: https://docs.ollama.com/faq
_IDLE = ("load", "unload")


def _final(body: Mapping[str, Any], facts: Facts) -> Optional[Reading]:
    """The last object of a stream, or the only one; None for one that is not the last."""
    embeddings = facts.format == "ollama_embeddings"
    if body.get("done") is not True and not embeddings:
        return None
    found: Dict[str, int] = {}
    for name, field in _COUNTS.items():
        number = count(body.get(name))
        if number is not None:
            found[field] = number
    if embeddings and "input_tokens" in found:
        found["output_tokens"] = 0
    usage = Usage(**found) if found else None
    return Reading(text(body.get("model")), usage, mismatch=usage is not None and inconsistent(usage))


def read(body: Mapping[str, Any], facts: Facts) -> List[Reading]:
    """A whole body."""
    if is_error(body, "done", "embeddings", "message", "response") or body.get("done_reason") in _IDLE:
        return []
    found = _final(body, facts)
    # A stream that was left in its first object.
    return [Reading(text(body.get("model")), None, streamed=True) if found is None else found]


_DOCS = "https://docs.ollama.com/api/"

GENERATE = Format(
    "ollama", None, "total_duration", ("model", "done", "done_reason", "error"), (), read,
    (b'"done":true', b'"done": true', b'"error"'), None, single(_final), 1, _DOCS + "chat", lines=True,
)  # fmt: skip
EMBEDDINGS = GENERATE._replace(
    name="ollama_embeddings", operation="embeddings", members=("model", "error"), docs=_DOCS + "embed", lines=False
)

FORMATS = (GENERATE, EMBEDDINGS)
