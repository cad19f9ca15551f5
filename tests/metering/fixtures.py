"""Every fixture: importing the modules `fixtures_*` fills the list."""

from __future__ import annotations

import importlib
import pathlib
from typing import Dict

from tests.metering.building import FIXTURES, Fixture, told

__all__ = ["BY_NAME", "FIXTURES", "Fixture", "told"]

for _path in sorted(pathlib.Path(__file__).parent.glob("fixtures_*.py")):
    importlib.import_module("tests.metering." + _path.stem)

BY_NAME: Dict[str, Fixture] = {fixture.name: fixture for fixture in FIXTURES}
