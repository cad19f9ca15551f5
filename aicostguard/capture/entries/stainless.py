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
        transport = getattr(client, "_client", None)  # a subclass that skips `__init__` may have none
        if "send" in getattr(transport, "__dict__", ()):
            logical.replaced_send(hook.name, transport)

    replace(hook, module.SyncAPIClient, "request", lambda original: logical.sync(original, hook, look))
    replace(hook, module.AsyncAPIClient, "request", lambda original: logical.coroutine(original, hook, look))
