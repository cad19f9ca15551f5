"""AI Cost Guard: what your AI calls cost, counted where they happen.

`import aicostguard.auto` switches metering on; the names here label calls and look after delivery. They are loaded
when first used, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from aicostguard.auto import auto_instrument, flush, shutdown, stats, uninstrument
    from aicostguard.context import agent, feature, labels, session
    from aicostguard.delivery.invocation import flush_on_return
    from aicostguard.delivery.scored import quality
    from aicostguard.frames import query
    from aicostguard.guard.costs import CostConfig
    from aicostguard.guard.enforcer import CostPolicyEnforcer
    from aicostguard.guard.errors import BudgetExceeded, BudgetExhausted, LoopDetected
    from aicostguard.guard.extractors import AnthropicCostExtractor, GoogleCostExtractor, OpenAICostExtractor
    from aicostguard.guard.langchain import LangChainCostCallback as LangChainCostCallback
    from aicostguard.guard.spending import check_cost_alerts, enforce_budget_or_raise, log_request_cost
    from aicostguard.guard.tokens import TokenUsage
    from aicostguard.guard.tracker import CostTracker
    from aicostguard.guard.tree import CostAttributionTree
    from aicostguard.ledger.alerts.today import check_cost_alert
    from aicostguard.ledger.questions import cost_by_feature, daily_cost_by_model, latency_percentiles
    from aicostguard.pricing.registry import CostCalculator, ModelPricing, PricingRegistry
    from aicostguard.tracked import TrackedClient

_HOMES = {
    "AnthropicCostExtractor": "aicostguard.guard.extractors",
    "BudgetExceeded": "aicostguard.guard.errors",
    "BudgetExhausted": "aicostguard.guard.errors",
    "CostAttributionTree": "aicostguard.guard.tree",
    "CostCalculator": "aicostguard.pricing.registry",
    "CostConfig": "aicostguard.guard.costs",
    "CostPolicyEnforcer": "aicostguard.guard.enforcer",
    "CostTracker": "aicostguard.guard.tracker",
    "GoogleCostExtractor": "aicostguard.guard.extractors",
    "LangChainCostCallback": "aicostguard.guard.langchain",
    "LoopDetected": "aicostguard.guard.errors",
    "ModelPricing": "aicostguard.pricing.registry",
    "OpenAICostExtractor": "aicostguard.guard.extractors",
    "PricingRegistry": "aicostguard.pricing.registry",
    "TokenUsage": "aicostguard.guard.tokens",
    "TrackedClient": "aicostguard.tracked",
    "agent": "aicostguard.context",
    "auto_instrument": "aicostguard.auto",
    "check_cost_alert": "aicostguard.ledger.alerts.today",
    "check_cost_alerts": "aicostguard.guard.spending",
    "cost_by_feature": "aicostguard.ledger.questions",
    "daily_cost_by_model": "aicostguard.ledger.questions",
    "enforce_budget_or_raise": "aicostguard.guard.spending",
    "feature": "aicostguard.context",
    "flush": "aicostguard.auto",
    "flush_on_return": "aicostguard.delivery.invocation",
    "labels": "aicostguard.context",
    "latency_percentiles": "aicostguard.ledger.questions",
    "log_request_cost": "aicostguard.guard.spending",
    "quality": "aicostguard.delivery.scored",
    "query": "aicostguard.frames",
    "session": "aicostguard.context",
    "shutdown": "aicostguard.auto",
    "stats": "aicostguard.auto",
    "uninstrument": "aicostguard.auto",
}

__all__ = [
    "AnthropicCostExtractor",
    "BudgetExceeded",
    "BudgetExhausted",
    "CostAttributionTree",
    "CostCalculator",
    "CostConfig",
    "CostPolicyEnforcer",
    "CostTracker",
    "GoogleCostExtractor",
    "LoopDetected",
    "ModelPricing",
    "OpenAICostExtractor",
    "PricingRegistry",
    "TokenUsage",
    "TrackedClient",
    "agent",
    "auto_instrument",
    "check_cost_alert",
    "check_cost_alerts",
    "cost_by_feature",
    "daily_cost_by_model",
    "enforce_budget_or_raise",
    "feature",
    "flush",
    "flush_on_return",
    "labels",
    "latency_percentiles",
    "log_request_cost",
    "quality",
    "query",
    "session",
    "shutdown",
    "stats",
    "uninstrument",
    "__version__",
]


#: where names live that ask a ledger, or keep one
_OF_LEDGER = ("aicostguard.frames", "aicostguard.ledger", "aicostguard.tracked")
if sys.version_info < (3, 11):
    __all__ = [name for name in __all__ if not _HOMES.get(name, "").startswith(_OF_LEDGER)]


if not TYPE_CHECKING:  # a checker that saw this would take every misspelt name for one that is there

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError("module 'aicostguard' has no attribute %r" % name)
        if sys.version_info < (3, 11) and home.startswith(_OF_LEDGER):
            raise ImportError("aicostguard.%s needs Python 3.11 or later, as the ledger does" % name)
        from importlib import import_module

        # The package first: to ask for what is in it, while another thread imports it, lets CPython give that thread a
        # module that is not ready.
        import_module(home.rpartition(".")[0])
        value = getattr(import_module(home), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
