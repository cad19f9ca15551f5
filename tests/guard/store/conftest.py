"""Every test that asks for a `store` runs on each kind of it."""

from __future__ import annotations

import pytest

from tests.guard.store.places import PLACES


@pytest.fixture(params=sorted(PLACES))
def store(request, tmp_path):
    made = PLACES[request.param](tmp_path)
    yield made
    made.close()
