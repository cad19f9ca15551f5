"""Numbers as providers write them: counts that are never guessed, money that is never rounded twice."""

from __future__ import annotations

import json
from decimal import ROUND_HALF_UP, Decimal
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aicostguard.metering.values import NANO, Written, count, nano_dollars, parse


@pytest.mark.ids("B13")
@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", 0), ("7", 7), ("12.0", 12), ("1e3", 1000), ("-1", None), ("1.5", None), ("true", None), ("null", None),
     ('"7"', None), ("[]", None), ("NaN", None), ("Infinity", None), ("1e400", None), ("-0.0", 0)],
)  # fmt: skip
def test_a_count_is_a_whole_number_that_is_not_negative(text: str, expected: Optional[int]) -> None:
    assert count(parse(text)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("7", 7), ("007", 7), ("-7", None), ("7.0", None), ("٧", None), ("", None), ("9" * 30, None)],
)
def test_digits_in_a_string_count_only_when_asked_for(value: str, expected: Optional[int]) -> None:
    assert count(value, digits=True) == expected
    assert count(value) is None


@given(st.decimals(min_value=0, max_value=10**6, places=12))
def test_dollars_are_exact_from_their_text(amount: Decimal) -> None:
    exact = int((amount * NANO).to_integral_value(rounding=ROUND_HALF_UP))
    assert nano_dollars(parse(format(amount, "f"))) == exact
    assert nano_dollars(parse("%E" % amount if amount == 0 else str(amount.normalize()))) == exact


@pytest.mark.parametrize(
    ("text", "units", "expected"),
    [("0.1", 1, 100_000_000), ("0.00000000149", 1, 1), ("0.0000000015", 1, 2), ("37756000", 10**10, 3775600),
     ("5", 10**10, 1), ("4", 10**10, 0), ("0", 1, 0), ("0.0", 1, 0), ("3", 1, 3 * NANO), ("-0.1", 1, None),
     ('"0.1"', 1, None), ("null", 1, None), ("true", 1, None), ("NaN", 1, None), ("1e99999999", 1, None),
     ("1e-99999999", 1, None)],
)  # fmt: skip
def test_reported_costs(text: str, units: int, expected: Optional[int]) -> None:
    assert nano_dollars(parse(text), units) == expected


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(JSON, st.sampled_from(["", " ", "\n\t", "\ufeff"]), st.sampled_from(["", " ", "\r\n", "x", "}", ","]))
def test_parse_agrees_with_the_standard_library(value: Any, before: str, after: str) -> None:
    text = json.dumps(value)
    parsed = parse((before + text + after).encode())
    assert parsed == (value if not after.strip() else None)


def test_fractions_keep_their_text() -> None:
    value = parse('{"a": 0.10}')["a"]
    assert type(value) is Written
    assert value == "0.10"
