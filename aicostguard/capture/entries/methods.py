"""SDKs whose entries are plain methods outside their retries: one row a module.

A module that lacks a method of its row is a version we do not know: the hook fails and says so.
"""

from __future__ import annotations

from types import ModuleType
from typing import Dict, NamedTuple, Tuple

from aicostguard.capture.entries import logical
from aicostguard.capture.patch import Hook, replace


class Entry(NamedTuple):
    """Methods of one class, blocking or coroutines."""

    owner: str
    names: Tuple[str, ...]
    coroutine: bool = False


_VOYAGE = ("embed", "contextualized_embed", "rerank", "multimodal_embed")

#: module → what is hooked in it
ENTRIES: Dict[str, Tuple[Entry, ...]] = {
    "huggingface_hub.inference._client": (Entry("InferenceClient", ("_inner_post",)),),
    "huggingface_hub.inference._generated._async_client": (Entry("AsyncInferenceClient", ("_inner_post",), True),),
    "replicate.client": (Entry("Client", ("_request",)), Entry("Client", ("_async_request",), True)),
    "ai21.http_client.http_client": (Entry("AI21HTTPClient", ("execute_http_request",)),),
    "ai21.http_client.async_http_client": (Entry("AsyncAI21HTTPClient", ("execute_http_request",), True),),
    "voyageai.client": (Entry("Client", _VOYAGE),),
    "voyageai.client_async": (Entry("AsyncClient", _VOYAGE, True),),
    "zhipuai.core._http_client": (Entry("HttpClient", ("request",)),),
    "azure.ai.inference._patch": (Entry("ChatCompletionsClient", ("complete",)), Entry("EmbeddingsClient", ("embed",))),
    "azure.ai.inference.aio._patch": (
        Entry("ChatCompletionsClient", ("complete",), True),
        Entry("EmbeddingsClient", ("embed",), True),
    ),
}


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the methods of the module's row. Raises when one of them is not where it was."""
    for entry in ENTRIES[module.__name__]:
        wrap = logical.coroutine if entry.coroutine else logical.sync
        owner = getattr(module, entry.owner)
        for name in entry.names:
            if name in owner.__dict__ or name not in ("contextualized_embed",):  # the one that came late
                replace(hook, owner, name, lambda original, wrap=wrap: wrap(original, hook))  # type: ignore[misc]
