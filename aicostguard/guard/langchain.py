"""`LangChainCostCallback`: LangChain's own word about each of its model calls → a tracker.

Owns the handler, whose class is made when it is first asked for, because LangChain is the host's. Each run of a model
is counted once, however many chains hand the handler down and however often it was given. A budget that is used up
stops the next call before it is made; what the tracker raises about a call comes out of that call. Any other fault is
ours and stays here.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional

from aicostguard import health
from aicostguard.guard.errors import BudgetExceeded, BudgetExhausted
from aicostguard.guard.extractors import openai_form, usages
from aicostguard.guard.fingerprint import fingerprint
from aicostguard.guard.tokens import TokenUsage
from aicostguard.guard.tracker import CostTracker

#: runs that are remembered
_MOST = 4096
#: LangChain's detail of `usage_metadata` → count of a receipt, https://docs.langchain.com (UsageMetadata)
_INPUT = {
    "cache_read": "cache_read_input_tokens",
    "cache_creation": "cache_creation_input_tokens",
    "ephemeral_1h_input_tokens": "cache_creation_1h_input_tokens",
    "audio": "input_audio_tokens",
}
_OUTPUT = {"reasoning": "reasoning_output_tokens", "audio": "output_audio_tokens"}
#: LangChain's name of a provider → ours; a model's maker needs none
_PROVIDERS = {
    "azure": "azure",
    "azure_openai": "azure",
    "bedrock": "bedrock",
    "bedrock_converse": "bedrock",
    "groq": "groq",
}
_ROLES = {"human": "user", "ai": "assistant"}


class _Run:
    """A model call under way."""

    __slots__ = ("model", "content")

    def __init__(self, model: Optional[str], content: Optional[bytes]) -> None:
        self.model = model
        self.content = content


class Runs:
    """What the handler does, without LangChain: the calls that were begun, and what came of them."""

    def __init__(self, tracker: CostTracker, agent_id: Optional[str], parent_id: Optional[str]) -> None:
        self.tracker = tracker
        self.agent_id = agent_id
        self.parent_id = parent_id
        #: by run; None is one that is over
        self._runs: OrderedDict[Any, Optional[_Run]] = OrderedDict()

    def begin(self, run: Any, turns: List[Any], more: Mapping[str, Any]) -> None:
        """A call is about to be made. Raises BudgetExceeded when nothing is left for it."""
        tracker = self.tracker
        if tracker.max_budget is not None and tracker.remaining <= 0:
            raise BudgetExceeded(
                "Budget of $%.2f is used up: spent $%.2f" % (float(tracker.max_budget), tracker.spent),
                budget="max_budget",
                dimension="budget",
                spent=tracker.spent_nanousd,
            )
        parameters = more.get("invocation_params") or {}
        model = parameters.get("model") or parameters.get("model_name")
        body = json.dumps({"messages": turns}, default=str, sort_keys=True).encode()
        self._runs[run] = _Run(model if isinstance(model, str) else None, fingerprint("langchain", body))
        while len(self._runs) > _MOST:
            self._runs.popitem(last=False)

    def fail(self, run: Any) -> None:
        """No answer: LangChain tells nothing of what it may have used."""
        self._runs.pop(run, None)

    def end(self, run: Any, result: Any) -> None:
        """The answer is there. Raises what the tracker does."""
        begun = self._runs.get(run, _Run(None, None))
        if begun is None:
            return  # a handler that was given twice
        self._runs[run] = None
        usage = usage_of(result, begun.model)
        mark = begun.content if begun.content is not None else object()
        self.tracker.record(usage, self.agent_id, fingerprint=mark, parent_id=self.parent_id)


def usage_of(result: Any, model: Optional[str]) -> TokenUsage:
    """What an `LLMResult` says was used. Answers to one prompt that were asked for together repeat the whole usage."""
    said: Mapping[str, Any] = result.llm_output or {}
    for generations in result.generations:
        for generation in generations:
            message = getattr(generation, "message", None)
            told = getattr(message, "response_metadata", None) or getattr(generation, "generation_info", None) or {}
            found = getattr(message, "usage_metadata", None)
            said = {**said, **told}
            if found:
                return _of_metadata(found, said, model)
    tokens = said.get("token_usage") or said.get("usage")
    return usages({"usage": tokens, "choices": [{}]}, openai_form, "openai", _name(said, model))[0]


def _of_metadata(found: Mapping[str, Any], said: Mapping[str, Any], model: Optional[str]) -> TokenUsage:
    counts: Dict[str, int] = {}
    for details, names in (("input_token_details", _INPUT), ("output_token_details", _OUTPUT)):
        for name, count in (found.get(details) or {}).items():
            if name in names and count:
                counts[names[name]] = count
    into = found.get("input_tokens") or 0
    cached = min(counts.pop("cache_read_input_tokens", 0), into)
    tier = said.get("service_tier")
    more: Dict[str, Any] = {"service_tier": tier} if isinstance(tier, str) and tier not in ("default", "auto") else {}
    provider = _PROVIDERS.get(str(said.get("model_provider")))
    name = _name(said, model) or "unknown"
    return TokenUsage(name, into, found.get("output_tokens") or 0, cached, provider=provider, **counts, **more)


def _name(said: Mapping[str, Any], model: Optional[str]) -> Optional[str]:
    return next((said[key] for key in ("model_name", "model", "model_id") if isinstance(said.get(key), str)), model)


def _turn(message: Any) -> Dict[str, Any]:
    kind = getattr(message, "type", None)
    turn = {"role": _ROLES.get(str(kind), kind), "content": getattr(message, "content", None)}
    calls = getattr(message, "tool_calls", None)
    if calls:
        turn["tool_calls"] = [dict(call) for call in calls]
    return turn


def _make() -> type:
    try:
        from langchain_core.callbacks import BaseCallbackHandler
    except ImportError:
        raise ImportError("LangChainCostCallback needs LangChain: pip install langchain-core") from None

    class LangChainCostCallback(BaseCallbackHandler):  # type: ignore[misc, unused-ignore]
        """Counts LangChain's model calls, plain, streamed, batched, sync and async, into a tracker.

        `agent_id` is whose calls they are, `parent_id` the agent that asked it, where there is one.
        """

        #: what the tracker raises has to reach the caller, so the handler runs in its task
        raise_error = True
        run_inline = True

        def __init__(
            self, tracker: CostTracker, agent_id: Optional[str] = None, parent_id: Optional[str] = None
        ) -> None:
            super().__init__()
            if not isinstance(tracker, CostTracker):
                raise TypeError("tracker must be a CostTracker(), not %s" % type(tracker).__name__)
            self.tracker = tracker
            self.agent_id = agent_id
            self._runs = Runs(tracker, agent_id, parent_id)

        def on_llm_start(self, serialized: Any, prompts: List[str], *, run_id: Any, **more: Any) -> None:
            _ours(self._runs.begin, run_id, list(prompts), more)

        def on_chat_model_start(self, serialized: Any, messages: Any, *, run_id: Any, **more: Any) -> None:
            _ours(lambda: self._runs.begin(run_id, [_turn(turn) for turns in messages for turn in turns], more))

        def on_llm_end(self, response: Any, *, run_id: Any, **more: Any) -> None:
            _ours(self._runs.end, run_id, response)

        def on_llm_error(self, error: BaseException, *, run_id: Any, **more: Any) -> None:
            _ours(self._runs.fail, run_id)

    LangChainCostCallback.__qualname__ = "LangChainCostCallback"
    return LangChainCostCallback


def _ours(step: Any, *args: Any) -> None:
    """What a tracker says goes to the caller; a fault of ours does not."""
    try:
        step(*args)
    except (BudgetExhausted, ValueError) as error:
        if isinstance(error, BudgetExhausted) or type(error).__name__ == "NoPricing":
            raise
        health.fault("guard.langchain", error)
    except Exception as error:
        health.fault("guard.langchain", error)


if TYPE_CHECKING:
    from langchain_core.callbacks import BaseCallbackHandler

    class LangChainCostCallback(BaseCallbackHandler):  # type: ignore[misc, unused-ignore]
        """What `_make` makes, for a type checker."""

        tracker: CostTracker
        agent_id: Optional[str]

        def __init__(
            self, tracker: CostTracker, agent_id: Optional[str] = None, parent_id: Optional[str] = None
        ) -> None: ...

else:

    def __getattr__(name: str) -> Any:
        if name != "LangChainCostCallback":
            raise AttributeError("module %r has no attribute %r" % (__name__, name))
        made = globals()[name] = _make()
        return made
