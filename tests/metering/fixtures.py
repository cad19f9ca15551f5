"""Every fixture: importing the modules fills the list."""

from __future__ import annotations

from typing import Dict

from tests.metering import fixtures_bedrock, fixtures_native, fixtures_openai, fixtures_others
from tests.metering.building import FIXTURES, Fixture, told

__all__ = [
    "BY_NAME",
    "FIXTURES",
    "Fixture",
    "fixtures_bedrock",
    "fixtures_native",
    "fixtures_openai",
    "fixtures_others",
    "told",
]

BY_NAME: Dict[str, Fixture] = {fixture.name: fixture for fixture in FIXTURES}
