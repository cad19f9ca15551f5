"""google-genai: `BaseApiClient._request` and `_async_request`, which stand outside its retries.

The public `request*` methods are generators where they stream, so the marked ones are those one step below.
"""

from __future__ import annotations

from types import ModuleType

from aicostguard.capture.entries import logical
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook the API client. Raises when its methods are not where they were."""
    replace(hook, module.BaseApiClient, "_request", lambda original: logical.sync(original, hook))
    replace(hook, module.BaseApiClient, "_async_request", lambda original: logical.coroutine(original, hook))
