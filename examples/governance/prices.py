"""A model of one's own, and what it costs."""

from aicostguard import CostTracker, ModelPricing, TokenUsage

pricing = ModelPricing()
pricing.register(
    "my-fine-tuned-model",
    input_per_million=5.0,
    output_per_million=15.0,
    cached_per_million=2.5,
)

tracker = CostTracker(pricing=pricing)
tracker.record(TokenUsage("my-fine-tuned-model", input_tokens=10_000, output_tokens=2_000, cached_tokens=4_000))
print(f"Spent: ${tracker.spent:.4f}")
