"""Pure metering: is this request one to an AI provider, and what did its response use?

Owns recognition, wire formats and the arithmetic of usage. No I/O, no patching, no clock. See `docs/metering.md`
for the formats and for where providers differ.
"""

from __future__ import annotations

from aicostguard.metering.endpoints import UNRECOGNISED, Endpoint, recognise
from aicostguard.metering.framing import Glance
from aicostguard.metering.meter import Meter, read_body

__all__ = ["UNRECOGNISED", "Endpoint", "Glance", "Meter", "read_body", "recognise"]
