"""Delivery of receipts to the ledger: queue, worker, inline sending, spool, local sink, status.

Owns the way from `submit` to the ledger's answer. Never raises to the host, never makes it wait in
background mode. Knows nothing of capture or of the ledger's code: it speaks the protocol.
"""

from __future__ import annotations

from aicostguard.delivery.delivery import Delivery
from aicostguard.delivery.status import register_status

__all__ = ["Delivery", "register_status"]
