"""What can go wrong in the ledger, as types that say what to do about it.

Owns the mapping from a failure to what a client and a person are told. Nothing here may carry a key or a
value of a receipt. If a failure is raised as anything else, it becomes a plain 500 without a way out.
"""

from __future__ import annotations


class LedgerError(Exception):
    """The ledger cannot do what was asked. `str()` is a sentence for a person, with the way out."""

    #: HTTP status of the reply
    status = 500
    #: seconds after which it makes sense to try again, or None
    retry_after: int | None = None


class Refused(LedgerError):
    """The request is at fault: `status` is 4xx. `field` names the offending key, parameter or header."""

    def __init__(self, status: int, error: str, field: str = "") -> None:
        super().__init__(error)
        self.status = status
        self.field = field


class NotWritable(LedgerError):
    """The file or its folder cannot be opened or written: nothing of the request was stored."""

    status = 503
    retry_after = 60


class Corrupt(LedgerError):
    """The file is damaged, or is no ledger at all. It is left as it is."""

    status = 503
    retry_after = 60


class Newer(LedgerError):
    """The file was written by a newer release."""

    status = 503
    retry_after = 60


class Full(LedgerError):
    """No room left on the device: nothing of the request was stored."""

    status = 503
    retry_after = 30


class Busy(LedgerError):
    """The write did not finish in time; it may still, so the same envelope should be sent again."""

    status = 503
    retry_after = 5


class Crowded(LedgerError):
    """More is sent than can be taken in at the moment: nothing of the request was stored."""

    status = 503

    def __init__(self, error: str, retry_after: int) -> None:
        super().__init__(error)
        self.retry_after = retry_after


class Limited(LedgerError):
    """One sender asks more often than it may: nothing of the request was stored."""

    status = 429

    def __init__(self, error: str, retry_after: int) -> None:
        super().__init__(error)
        self.retry_after = retry_after
