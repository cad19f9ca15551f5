"""SDKs of the Stainless generator: openai, anthropic, groq, together, perplexity, cerebras.

All share `_base_client.{Sync,Async}APIClient.request`, which stands outside their retry loop.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from aicostguard.capture.entries import logical
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook one SDK's base client. Raises when its classes are not where they were."""

    def look(client: Any) -> None:
        # A subclass that skips `__init__` may have no transport.
        logical.replaced_send(hook.name, getattr(client, "_client", None))

    replace(hook, module.SyncAPIClient, "request", lambda original: logical.sync(original, hook, look))
    replace(hook, module.AsyncAPIClient, "request", lambda original: logical.coroutine(original, hook, look))
