"""Extractors: an SDK's own response object → what it used → a tracker.

Owns the way from objects to the JSON that they came as, and which format that is. What the JSON says was used is read
by `metering`, by the same rules as in the call path; no count is interpreted here. A response that tells no usage has
no cost: the tracker counts it as unpriced and says so.
"""

from __future__ import annotations

import json
from typing import Any, Callable, Dict, List, Mapping, Optional, Tuple

from aicostguard import receipt
from aicostguard.guard.tokens import TokenUsage
from aicostguard.guard.tracker import CostTracker
from aicostguard.metering import Endpoint, read_body
from aicostguard.usage import Reading

#: a body → its format in metering, and the body that it is about
Form = Callable[[Dict[str, Any]], Tuple[str, Dict[str, Any]]]

#: as deep as a response is looked into
_DEEP = 30


class CostExtractor:
    """What all three have in common. `tracker` may be shared; `agent_id` is whose calls they are unless one is named.

    `default_model` names the model where neither the response nor `record` does; `provider` whose prices count, where
    an SDK talks to another host than its own (`azure`, `groq`, `openrouter`).
    """

    PROVIDER = ""
    FORM: Form

    def __init__(
        self,
        tracker: CostTracker,
        *,
        agent_id: Optional[str] = None,
        default_model: Optional[str] = None,
        provider: Optional[str] = None,
    ) -> None:
        if not isinstance(tracker, CostTracker):
            raise TypeError("tracker must be a CostTracker(), not %s" % type(tracker).__name__)
        self.tracker = tracker
        self.agent_id = agent_id
        self.default_model = default_model
        self.provider = provider or self.PROVIDER

    def __repr__(self) -> str:
        return "%s(%r)" % (type(self).__name__, self.tracker)

    def record(
        self,
        response: Any,
        model: Optional[str] = None,
        *,
        agent_id: Optional[str] = None,
        action_type: Optional[str] = None,
    ) -> Optional[float]:
        """Add a response to the tracker; what it costs in USD, None when that is not known.

        `response` is the SDK's object, a dict of the same, or the last chunk or event of a stream. `model` goes before
        the name in the response. Raises what the tracker does; TypeError for what is no response.
        """
        costs: List[Optional[float]] = []
        for usage in self.usages(response, model):
            # Nothing in a response tells two requests apart or makes them one: only a named action can be a loop.
            mark = None if action_type else object()
            costs.append(self.tracker.record(usage, agent_id or self.agent_id, action_type, fingerprint=mark))
        known = [cost for cost in costs if cost is not None]
        return sum(known) if known else None

    def usages(self, response: Any, model: Optional[str] = None) -> List[TokenUsage]:
        """What a response used; several where it bills several models."""
        return usages(response, self.FORM, self.provider, model, self.default_model)


def usages(
    response: Any, form_of: Form, provider: str, model: Optional[str] = None, default_model: Optional[str] = None
) -> List[TokenUsage]:
    """What metering reads in a response of a provider. `model` goes before the response's name of it."""
    body = as_json(response)
    if type(body) is not dict:
        raise TypeError("%s is no response of an SDK and no dict of one" % type(response).__name__)
    form, body = form_of(body)
    text = json.dumps(body).encode()
    readings = read_body(Endpoint(provider, form), 200, "application/json", text, lambda: None, lambda _: None)
    return [
        _usage(reading, provider, model or reading.model or default_model)
        for reading in readings or [Reading(None, None)]
    ]


def _usage(reading: Reading, provider: str, model: Optional[str]) -> TokenUsage:
    more: Dict[str, Any] = {
        "operation": reading.operation,
        "service_tier": reading.service_tier,
        "region": reading.region,
    }
    if reading.usage is None:
        more["usage_missing"] = True
    made, _ = receipt.build(reading.provider or provider, model, reading.usage, more)
    return TokenUsage.of(made)


def openai_form(body: Dict[str, Any]) -> Tuple[str, Dict[str, Any]]:
    """OpenAI's formats."""
    whole = body.get("response")  # the event `response.completed`
    if type(whole) is dict and "usage" in whole:
        body = whole
    if body.get("object") == "response" or "output" in body:
        return "responses", body
    if body.get("object") == "list" or (type(body.get("data")) is list and "choices" not in body):
        return ("images" if "created" in body and "object" not in body else "embeddings"), body
    return "chat", body


def anthropic_form(body: Dict[str, Any]) -> Tuple[str, Dict[str, Any]]:
    """Anthropic's messages."""
    whole = body.get("message")  # the event `message_stop` of the SDK's streams
    return "messages", whole if type(whole) is dict and "usage" in whole else body


def google_form(body: Dict[str, Any]) -> Tuple[str, Dict[str, Any]]:
    """Gemini's answers. Those of google-generativeai, and dicts of google-genai's, have underscores in their names."""
    return "generate", _camels(body)


class OpenAICostExtractor(CostExtractor):
    """Responses of the OpenAI SDK, and of the hosts that follow it: chat, completions, Responses, embeddings."""

    PROVIDER = "openai"
    FORM = staticmethod(openai_form)


class AnthropicCostExtractor(CostExtractor):
    """Messages of the Anthropic SDK; of a stream its final message, or the event `message_stop`."""

    PROVIDER = "anthropic"
    FORM = staticmethod(anthropic_form)


class GoogleCostExtractor(CostExtractor):
    """Responses of google-genai and google-generativeai, and events of Google's ADK."""

    PROVIDER = "google"
    FORM = staticmethod(google_form)


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.title() for part in rest)


def _camels(value: Any) -> Any:
    """Names of members in the way of the JSON; what a tool was called with is not asked for."""
    if type(value) is dict:
        return {_camel(name): _camels(item) for name, item in value.items()}
    return [_camels(item) for item in value] if type(value) is list else value


def as_json(value: Any, depth: int = 0) -> Any:
    """An object of an SDK as the JSON it came as. What is neither counts nor text of it becomes None."""
    if value is None or isinstance(value, (str, int, float, bool)):
        return getattr(value, "value", value)  # of an enum
    if depth > _DEEP:
        return None
    if isinstance(value, Mapping):
        return {str(name): as_json(item, depth + 1) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(item, depth + 1) for item in value]
    if depth == 0 and callable(getattr(value, "parse", None)) and hasattr(value, "http_response"):
        return as_json(value.parse(), 1)  # `with_raw_response`
    for name, arguments in _DUMPS:
        dump: Optional[Callable[..., Any]] = getattr(type(value), name, None)
        if callable(dump):
            return as_json(dump(value, **arguments), depth + 1)
    members = getattr(value, "__dict__", None)
    if isinstance(members, dict) and members:
        return {name: as_json(item, depth + 1) for name, item in members.items() if not name.startswith("_")}
    return None


#: methods that give an object as a dict, the first that it has: pydantic 2 and 1, google-generativeai
_DUMPS: Tuple[Tuple[str, Mapping[str, Any]], ...] = (
    ("model_dump", {"mode": "json", "by_alias": True, "exclude_none": True, "warnings": False}),
    ("dict", {"by_alias": True, "exclude_none": True}),
    ("to_dict", {}),
)
