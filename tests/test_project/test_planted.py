"""Every way in which tools like ours have failed has a planted fault, and the document shows those that there are."""

from __future__ import annotations

import re

import pytest

from tests import ids
from tests.planted import FAULTS

#: as the document writes a fault: id, what was broken, where, the test
ROW = re.compile(r"^\| ([A-G]\d+) \| (.+) \| `([^`]+)` \| `([^`]+)` \| \d{4}-\d\d-\d\d \|$", re.M)


@pytest.mark.ids("G22")
def test_every_pitfall_has_a_planted_fault() -> None:
    pitfalls = {name for name in ids.table() if not ids.is_acceptance(name)}
    assert sorted(pitfalls - {fault.id for fault in FAULTS}) == []


@pytest.mark.ids("G22")
def test_the_document_shows_what_is_planted() -> None:
    told = ROW.findall((ids.ROOT / "docs" / "planted.md").read_text(encoding="utf-8"))
    there = (
        (fault.id, fault.what, fault.at.replace("aicostguard/", "", 1), fault.test.replace("tests/", "", 1))
        for fault in FAULTS
    )
    assert told == list(there)
