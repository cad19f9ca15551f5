"""`python -m aicostguard.cli` is `aicg`."""

from __future__ import annotations

import sys

from aicostguard.cli import main

sys.exit(main())
