"""The point at which a call may be refused: what the guard registers with capture.

Owns the protocol and nothing else: capture never imports the guard. `State.gate` is None while no budget is in force,
and then a call costs one look at it.

A refusal is raised as `Refused`, which is no `Exception`: raised inside a transport, an `Exception` would be retried by
the SDK and come out as a connection error. The entry hook outside the retries turns it into the user's error;
where no entry hook stands above, the transport does. It never crosses into a thread that a library made.
"""

from __future__ import annotations

from typing import Any, Optional, Protocol, Sequence

from aicostguard.receipt import Receipt


class Refused(BaseException):
    """Carries the error that the user gets out of a transport, past an SDK's own retries."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class Gate(Protocol):
    """What the guard gives to capture. `held` is what `ask` answered; capture never looks into it.

    Each `held` is answered by exactly one of `settle`, `release`, `lost`; a second answer is ignored.
    """

    def ask(self, call: Any) -> Any:
        """Before anything of `call` (a `capture.call.Call`) is sent. Raises `Refused` when it has no room."""

    async def aask(self, call: Any) -> Any:
        """As `ask`, without blocking the running loop."""

    def settle(self, held: Any, receipts: Sequence[Receipt]) -> None:
        """The call's receipts are made: what it has used is known (or they say that it is not)."""

    def release(self, held: Any) -> None:
        """Certain that nothing is billed: no connection was made, or the status says error."""

    def lost(self, held: Any) -> None:
        """Something may have been billed, and nobody knows how much: all that is held is booked, as an estimate."""

    def passing(self, held: Any, call: Any, data: bytes) -> Optional[BaseException]:
        """Bytes of a stream have come; asked only where `held.watch` is true. An error when it must be cut here."""
