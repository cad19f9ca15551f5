"""`TokenUsage`: what one call used, as people write it down, and its price.

Owns the value and the way from it to a price. `input_tokens` is all input and `cached_tokens` a part of it, as
everywhere here. A model without a price is never free: it has no cost, and a reason.
"""

from __future__ import annotations

from typing import Any, Dict, Mapping, Optional, Tuple

from aicostguard.pricing.book import Price
from aicostguard.pricing.registry import ModelPricing
from aicostguard.receipt import FIELDS

#: keys of a receipt that a usage has under other names, or that say nothing of its price
_OURS = ("provider", "model", "input_tokens", "output_tokens", "cache_read_input_tokens")


class TokenUsage:
    """What one call used.

    `cached_tokens` is the part of `input_tokens` that was read from a cache. `more` takes every other count of a
    receipt under its name there (`cache_creation_input_tokens`, `reasoning_output_tokens`, `web_searches`, …) and what
    decides a price (`service_tier`, `operation`, `region`). `provider` is needed only where the model's name alone does
    not tell whose price it is (`azure`, `openrouter`). Raises ValueError for what cannot be.
    """

    __slots__ = ("model", "input_tokens", "output_tokens", "cached_tokens", "provider", "more")

    def __init__(
        self,
        model: str,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cached_tokens: int = 0,
        *,
        provider: Optional[str] = None,
        **more: Any,
    ) -> None:
        if type(model) is not str or not model:
            raise ValueError("model must be the name of one, not %r" % (model,))
        counts = {"input_tokens": input_tokens, "output_tokens": output_tokens, "cached_tokens": cached_tokens, **more}
        for name, value in counts.items():
            field = FIELDS.get("cache_read_input_tokens" if name == "cached_tokens" else name)
            if field is None or field.kind in ("label", "tags") or name == "cache_read_input_tokens":
                raise TypeError("TokenUsage takes no %r: it is no count of a receipt" % name)
            if not field.fits(value):
                raise ValueError("%s must be %s, not %r" % (name, field.expects, value))
        if cached_tokens > input_tokens:
            raise ValueError(
                "cached_tokens is a part of input_tokens, so %d cannot be more than %d: add them to input_tokens"
                % (cached_tokens, input_tokens)
            )
        self.model = model
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.cached_tokens = cached_tokens
        self.provider = provider
        self.more: Mapping[str, Any] = more

    @classmethod
    def of(cls, receipt: Mapping[str, Any]) -> TokenUsage:
        """What a receipt says was used, without its labels and times."""
        more = {
            key: value
            for key, value in receipt.items()
            if key not in _OURS and key in FIELDS and FIELDS[key].kind not in ("label", "tags")
        }
        return cls(
            receipt["model"],
            receipt.get("input_tokens", 0),
            receipt.get("output_tokens", 0),
            receipt.get("cache_read_input_tokens", 0),
            provider=receipt["provider"],
            **more,
        )

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def counts(self) -> Dict[str, Any]:
        """The keys of a receipt."""
        found = {"input_tokens": self.input_tokens, "output_tokens": self.output_tokens, **self.more}
        if self.cached_tokens:
            found["cache_read_input_tokens"] = self.cached_tokens
        return found

    def price(self, pricing: ModelPricing) -> Price:
        """What it costs now."""
        return pricing.price(self.model, self.counts(), provider=self.provider)

    @staticmethod
    def needed(usage: object) -> None:
        """Raise TypeError for what is none."""
        if not isinstance(usage, TokenUsage):
            raise TypeError(
                "usage must be a TokenUsage(model, input_tokens, output_tokens), not %s" % type(usage).__name__
            )

    def _values(self) -> Tuple[Any, ...]:
        return self.model, self.input_tokens, self.output_tokens, self.cached_tokens, self.provider, dict(self.more)

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, TokenUsage) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        said = {"cached_tokens": self.cached_tokens or None, "provider": self.provider, **self.more}
        rest = "".join(", %s=%r" % pair for pair in said.items() if pair[1] is not None)
        return "TokenUsage(model=%r, input_tokens=%d, output_tokens=%d%s)" % (
            self.model,
            self.input_tokens,
            self.output_tokens,
            rest,
        )
