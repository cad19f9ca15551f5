"""What delivery tells the user, each sentence once per process.

Owns the texts. They name settings, statuses and types of exceptions; never the key, the URL, a path or text
of a request.
"""

from __future__ import annotations

from typing import Dict

from aicostguard.health import health

_SENTENCES: Dict[str, str] = {
    "ledger.refused": "the ledger refused {0} receipt(s); the first reason: {1}",
    "ledger.denied": "the ledger refuses AICG_KEY ({0}): receipts are kept, not delivered; check the key",
    "ledger.moved": (
        "AICG_URL answers with a redirect (HTTP {0}), which is not followed because the key would travel along: "
        "set AICG_URL to the final address"
    ),
    "ledger.rejected": (
        "the ledger does not take our receipts (HTTP {0}); they are set aside in the spool's quarantine folder. "
        "Is AICG_URL the address of a ledger?"
    ),
    "ledger.unreachable": "the ledger at AICG_URL cannot be reached ({0}): receipts are kept and sent when it answers",
    "sink.broken": (
        "the ledger file of AICG_URL cannot be written ({0}): receipts are kept and tried again; "
        "check the path, its permissions, the disk and the file"
    ),
    "receipts.dropped": (
        "receipts were dropped: they could neither be delivered nor kept; aicg-diagnose shows how many and why"
    ),
    "spool.full": "the spool is full; what does not fit in memory is dropped and counted",
    "spool.broken": "the spool under AICG_STATE_DIR cannot be used ({0}): receipts wait in memory only",
    "spool.slow": (
        "the disk under AICG_STATE_DIR is slow: for a while receipts are not written down before their call returns; "
        "set AICG_STATE_DIR to a local disk"
    ),
    "spool.corrupt": "damaged records were found in the spool; their files are moved to its quarantine folder",
    "quarantine.full": "the spool's quarantine folder is full; look at it and empty it",
    "threads.frozen": (
        "uWSGI runs without threads here: receipts are kept, and sent during a later AI call, in flush() or when the "
        "worker ends; with --enable-threads they are sent at once"
    ),
    "proxy.unusable": (
        "the environment names a {0} proxy, which is not supported: the ledger at AICG_URL is reached directly"
    ),
    "trust.unreadable": "{0} names no certificates that can be read: the ledger is judged by the system's alone",
    "status.broken": (
        "the status file under AICG_STATE_DIR cannot be written ({0}): aicg-diagnose will not see this process"
    ),
}


def warn(code: str, *values: object) -> None:
    """Say the sentence of `code`, unless this process has said it."""
    health.warn(code, "aicostguard: " + _SENTENCES[code].format(*values))
