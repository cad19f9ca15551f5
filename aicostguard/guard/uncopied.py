"""Running sums that stay what they are: one for a process.

Owns the refusal to copy or pickle. A copy would count for itself, and of a budget that two count apart each sees room.
"""

from __future__ import annotations

from typing import Any, SupportsIndex


class Uncopied:
    """Cannot be copied or pickled; the error says what to do instead."""

    __slots__ = ()

    def __reduce_ex__(self, protocol: SupportsIndex) -> Any:
        raise TypeError(
            "a %s is neither copied nor pickled, for two would count apart: threads share the object itself, processes "
            'a CostPolicyEnforcer(config, store="sqlite")' % type(self).__name__
        )
