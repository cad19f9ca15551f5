"""Checking receipts from outside the quick way: not one of them may pass, or fail, that the schema judges otherwise."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from aicostguard.ledger import ingest
from aicostguard.receipt import FIELDS, check

_VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 2),
    st.sampled_from(
        [10**9, 10**9 + 1, 10**10 + 1, 10**13 + 1, 1.0, "", "gpt-4o", "batch", "image", "two words", "é", "x" * 300]
    ),
    st.text(max_size=5),
    st.dictionaries(st.sampled_from(["a", "1", "b c"]), st.sampled_from(["x", "", "y\n", 1]), max_size=2),
    st.lists(st.integers(), max_size=1),
)
_ANY_RECEIPTS = st.one_of(
    st.none(),
    st.dictionaries(st.one_of(st.sampled_from([*FIELDS, "prompt"]), st.text(max_size=3)), _VALUES, max_size=6),
)


@settings(max_examples=300, deadline=None)
@given(found=_ANY_RECEIPTS, complete=st.booleans())
def test_the_short_way_of_checking_a_receipt_says_what_the_long_one_says(found: Any, complete: bool) -> None:
    if found is not None and complete:
        found = {"provider": "openai", "model": "gpt-4o", **found}
    for _ in range(2):  # the second time its texts are known
        assert ingest._problems(found) == check(found)
