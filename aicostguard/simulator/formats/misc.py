"""What providers answer for free: model lists, warm-up requests; and each provider's error body.

Nothing here is ever billed.
"""

from __future__ import annotations

from typing import Any, Dict, Optional

from aicostguard.simulator.call import Call, Reply, dumps

#: status → Anthropic's error type; the list of its API reference
_ANTHROPIC = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_GOOGLE = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
}


def models(call: Call) -> Reply:
    """GET …/models."""
    if call.provider in ("google", "vertex"):
        return Reply(body=dumps({"models": [_google("gemini-2.5-flash")]}))
    if call.provider == "anthropic":
        row = _claude("claude-sonnet-4-5")
        return Reply(body=dumps({"data": [row], "has_more": False, "first_id": row["id"], "last_id": row["id"]}))
    row = {"id": "gpt-4o", "object": "model", "owned_by": call.provider}
    return Reply(body=dumps({"object": "list", "data": [{**row, "created": call.created}]}))


def model(call: Call) -> Reply:
    """GET …/models/NAME; Google's paths name it `model`."""
    name = call.params.get("name") or call.params.get("model")
    if call.provider in ("google", "vertex"):
        return Reply(body=dumps(_google(name)))
    if call.provider == "anthropic":
        return Reply(body=dumps(_claude(name)))
    row = {"id": name, "object": "model", "owned_by": call.provider}
    return Reply(body=dumps({**row, "created": call.created}))


def _google(name: Optional[str]) -> Dict[str, Any]:
    return {"name": "models/%s" % name, "version": "001"}


def _claude(name: Optional[str]) -> Dict[str, Any]:
    return {"type": "model", "id": name, "display_name": "S", "created_at": "2025-09-29T00:00:00Z"}


def nothing(call: Call) -> Reply:
    """A warm-up request."""
    return Reply(body=b"{}")


def error_body(provider: str, fmt: str, status: int, message: str) -> Dict[str, Any]:
    """The provider's usual error body."""
    if fmt in ("messages", "batches") or (provider == "anthropic" and fmt != "chat"):
        return {"type": "error", "error": {"type": _ANTHROPIC.get(status, "api_error"), "message": message}}
    if provider in ("google", "vertex"):
        state = _GOOGLE.get(status, "INTERNAL" if status >= 500 else "FAILED_PRECONDITION")
        return {"error": {"code": status, "message": message, "status": state}}
    if provider == "mistral":
        return {"object": "error", "message": message, "type": "simulated", "param": None, "code": str(status)}
    if provider == "openrouter":
        return {"error": {"message": message, "code": status}}
    kind = "rate_limit_error" if status == 429 else "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}
