"""What a region adds to the list price.

Owns the table of regional premiums, each with the page of the provider that states it. A premium that is not
established there is not in the table: docs/pricing.md lists what is left out. If a row is too wide, a region is charged
what nobody bills.
"""

from __future__ import annotations

import re
from typing import List, NamedTuple, Optional, Pattern

from aicostguard.pricing.own import Adjustment, Scope, matches
from aicostguard.pricing.plan import day_ms
from aicostguard.pricing.rates import Factor


class Premium(NamedTuple):
    """A factor on every token price, cached and written ones included; fees per use are not scaled.

    `model` is matched against the whole id of the price row, `region` against what the receipt says, `*` for any.
    `global` is nowhere in particular and never has a premium. `since` is the day from which it is charged.
    """

    provider: str
    model: Pattern[str]
    region: str
    factor: Factor
    text: str
    since: Optional[str] = None


_ANY = re.compile(r".*", re.DOTALL)

PREMIUMS = (
    # https://platform.claude.com/docs/en/about-claude/pricing#data-residency-pricing: 1.1x on all token categories.
    # Only models from Opus 4.6 on take the parameter that leads to the region.
    Premium("anthropic", _ANY, "us", (11, 10), "*1.1"),
    # https://platform.claude.com/docs/en/about-claude/pricing (regional and multi-region endpoints): Claude Sonnet 4.5,
    # Haiku 4.5, Opus 4.5 and all later ones; earlier ones keep their price. Bedrock has rows of their own for it.
    Premium(
        "vertex",
        re.compile(r"claude-((opus|sonnet|haiku)-(4-[5-9]|[5-9])|fable-|mythos-).*"),
        "*",
        (11, 10),
        "*1.1",
    ),
    # Gemini 3 and later, non-global endpoints, as litellm's table has it (regional_endpoint_uplift_multiplier); the
    # page that decides is https://cloud.google.com/vertex-ai/generative-ai/pricing
    Premium("vertex", re.compile(r"gemini-[3-9].*"), "*", (11, 10), "*1.1", "2026-07-01"),
    # https://developers.openai.com/api/docs/guides/data-residency: eligible models released on or after 5 March 2026,
    # on the endpoints of a region
    Premium(
        "openai",
        re.compile(r"gpt-(5\.[4-9]|6(\.\d+)?)(-(pro|mini|nano|sol|terra|luna|astra|rosalind))?"),
        "*",
        (11, 10),
        "*1.1",
    ),
)


def premiums(provider: str, model: str, region: Optional[str]) -> List[Adjustment]:
    """What is added to the token prices of a model's row for calls that a provider served in a region."""
    if region is None or region == "global":
        return []
    return [
        Adjustment(
            Scope(provider, region=region, start=day_ms(row.since) if row.since else None, day=row.since),
            row.factor,
            row.text,
            fees=False,
        )
        for row in PREMIUMS
        if row.provider == provider and matches(row.region, region) and row.model.fullmatch(model)
    ]
