"""What a region adds to the list price.

Owns the table of regional premiums, each with the page of the provider that states it. A premium that is not
established there is not in the table: docs/pricing.md lists what is left out. If a row is too wide, a region is charged
what nobody bills.
"""

from __future__ import annotations

from typing import Dict, NamedTuple, Optional, Tuple

from aicostguard.pricing.rates import Factor


class Premium(NamedTuple):
    """A factor on every token price, and the same for people."""

    factor: Factor
    text: str


NONE = Premium((1, 1), "")

#: (provider, region) → factor on every token price.
#: https://platform.claude.com/docs/en/about-claude/pricing#data-residency-pricing
_REGIONS: Dict[Tuple[str, str], Premium] = {("anthropic", "us"): Premium((11, 10), "1.1")}


def premium(provider: str, model: str, region: Optional[str]) -> Premium:
    """The factor on the token prices of a model's row for calls that a provider served in a region."""
    return _REGIONS.get((provider, region), NONE) if region else NONE
