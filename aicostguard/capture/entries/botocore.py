"""botocore and aiobotocore: `_make_api_call`, which stands outside their retries.

Only clients of the services that serve models are marked: what the same program does in S3 or SQS is none of ours, and
must cost nothing. The bytes are seen beneath: by urllib3's hook, and for aiobotocore by that of aiohttp or httpx.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Callable

from aicostguard.capture.entries import logical
from aicostguard.capture.patch import Hook, replace

#: service names as `boto3.client` takes them
SERVICES = frozenset({"bedrock-runtime", "bedrock-agent-runtime", "sagemaker-runtime"})


def install(module: ModuleType, hook: Hook) -> None:
    """Hook one of the two. Raises when its client is not where it was."""
    if hasattr(module, "AioBaseClient"):
        replace(hook, module.AioBaseClient, "_make_api_call", lambda original: _coroutine(original, hook))
    else:
        replace(hook, module.BaseClient, "_make_api_call", lambda original: _sync(original, hook))


def _sync(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    marked = logical.sync(original, hook)

    def _make_api_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return (marked if _serves_models(hook, self) else original)(self, *args, **kwargs)

    return _make_api_call


def _coroutine(original: Callable[..., Any], hook: Hook) -> Callable[..., Any]:
    marked = logical.coroutine(original, hook)

    async def _make_api_call(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await (marked if _serves_models(hook, self) else original)(self, *args, **kwargs)

    return _make_api_call


def _serves_models(hook: Hook, client: Any) -> bool:
    try:
        return client.meta.service_model.service_name in SERVICES
    except Exception as error:
        hook.failed("service", error)
        return False
