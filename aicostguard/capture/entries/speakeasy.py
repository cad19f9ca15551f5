"""SDKs of the Speakeasy generator: mistralai and openrouter.

All share `basesdk.BaseSDK.do_request` and `do_request_async`, which stand outside their retry loop.
"""

from __future__ import annotations

from types import ModuleType

from aicostguard.capture.entries import logical
from aicostguard.capture.patch import Hook, replace


def install(module: ModuleType, hook: Hook) -> None:
    """Hook one SDK's base class. Raises when its methods are not where they were."""
    replace(hook, module.BaseSDK, "do_request", lambda original: logical.sync(original, hook))
    replace(hook, module.BaseSDK, "do_request_async", lambda original: logical.coroutine(original, hook))
