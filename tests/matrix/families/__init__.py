"""The families of the matrix. Importing this fills `case.CASES` and `case.ENVIRONMENTS`."""

from __future__ import annotations

import importlib
import pkgutil

for _family in sorted(module.name for module in pkgutil.iter_modules(__path__)):
    importlib.import_module("%s.%s" % (__name__, _family))
