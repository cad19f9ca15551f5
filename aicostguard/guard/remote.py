"""`AICG_ENFORCE=ledger`: the ledger's policy in force here, beside the program's own.

Owns the thread that fetches it every half minute and tells the ledger that this process lives, the copy of it in the
state folder by which a start without the ledger enforces all the same, and the wait of the very first call for it. No
call ever fetches the policy itself, but where there can be no thread. What is wrong with a policy is said, and the one
before stays in force.
"""

from __future__ import annotations

import json
import os
import time
from os import getpid
from typing import Any, Callable, Dict, Mapping, Optional, Sequence

from aicostguard import health
from aicostguard.capture.state import state
from aicostguard.config import Settings
from aicostguard.delivery import files
from aicostguard.delivery.folder import destination_of
from aicostguard.delivery.threads import Flag, start_thread
from aicostguard.guard import aside, enforcing
from aicostguard.guard.link import Link, Unreachable
from aicostguard.guard.plan import Rule
from aicostguard.guard.policy import BadPolicy, Policy
from aicostguard.guard.store import Store, open_store
from aicostguard.guard.store.lent import LentStore
from aicostguard.guard.tighten import Joined, join, read

#: seconds between two looks at the policy, for an exchange beside calls, and that the first call waits for the first
EVERY, SECONDS, FIRST = 30.0, 5.0, 2.0
#: seconds that the end of a program may take for giving back
LEAVE = 0.5
#: bytes of a copy that is read
MOST = 4 << 20

#: puts rules in force over a store: `enforcing.start` with what else it needs
Apply = Callable[[Policy, Store], Any]


class Enforced:
    """The ledger's policy over one program. `apply` puts the joined policy in force; `holder` names this process."""

    def __init__(
        self, settings: Settings, own: Policy, beside: Optional[Store], holder: Callable[[], str], apply: Apply
    ) -> None:
        self.own = own
        self._apply = apply
        self._settings = settings
        self._link = Link(settings.url or "", settings.key, "policy")
        self.store = LentStore(self._link.lend, holder, beside, in_child=self.tend)
        self._etag: Optional[str] = None
        self._words = ""
        self._closed = False
        self.ready = Flag()
        #: the first look is over, whatever came of it
        self.looked = False
        self._pid = 0
        self._next = 0.0
        #: when the policy was last known to be the ledger's, Unix seconds
        self.fetched = 0.0

    def start(self) -> None:
        """Put in force what is known; the rest comes from the thread. Never raises for a ledger that is away."""
        copied = self._copied()
        known = copied is not None and self._put(copied)
        if not known and self.own.budgets:
            self._apply(self.own, self.store)
        if not known or self._settings.inline:
            state.gate = Pending(self, state.gate)
        if not self._settings.inline:
            self.tend()

    def stop(self) -> None:
        """Nothing more is fetched. What was borrowed goes back when its lease ends."""
        self._closed = True
        self._link.close()

    def leave(self) -> None:
        """The end of the program: what was borrowed and is not used is given back, where the ledger answers."""
        try:
            if not self._closed and self._pid == getpid() and self.store.answers():
                self._closed = True
                self.store.give_back(_now(), LEAVE)
        except Exception as error:
            health.fault("guard.remote.leave", error)

    def tend(self) -> None:
        """See that the thread runs: it is not there in a forked child. Where none can run, look here and now."""
        pid = getpid()
        if self._pid == pid and (not self._settings.inline or time.monotonic() < self._next):
            return
        forked, self._pid = self._pid not in (0, pid), pid
        if forked:
            self._link.forked()
        if self._settings.inline:
            self.turn(FIRST)
            return
        try:
            start_thread(self._run)
        except RuntimeError:  # the interpreter ends
            self.ready.set()

    def _run(self) -> None:
        from aicostguard.context import inside

        inside.set(True)  # our own traffic
        pid = self._pid
        while not self._closed and pid == getpid():
            self.turn()
            wake = Flag()
            wake.wait(EVERY)

    def turn(self, seconds: float = SECONDS) -> None:
        """One look at the policy, one word to the ledger about what is borrowed. Never raises."""
        self._next = time.monotonic() + EVERY
        try:
            self._fetch(seconds)
        except Exception as error:
            health.fault("guard.remote.fetch", error)
        finally:
            self.looked = True
            self.ready.set()
        try:
            self.store.renew(_now(), seconds)
        except Exception as error:
            health.fault("guard.remote.renew", error)

    def _fetch(self, seconds: float) -> None:
        try:
            found, self._etag = self._link.policy(self._etag, seconds)
        except Unreachable as error:
            health.note("guard_policy_unreachable")
            if error.status in (401, 403):
                health.warn("guard-policy-key", "The ledger does not give its policy to this key (%s)" % error.status)
            elif isinstance(state.gate, Pending) and not self._words:
                health.warn(
                    "guard-policy-none",
                    "The ledger's policy could not be fetched (%s), and there is no copy of it: only the program's own "
                    "budgets are enforced until it answers" % error,
                )
            self._put_own()
            return
        self.fetched = time.time()
        if found is None:
            return
        if self._put(found):
            self._copy(found)

    def _put_own(self) -> None:
        """The program's own rules alone, until the ledger's are known."""
        pending = state.gate
        if isinstance(pending, Pending) and not self._settings.inline:
            state.gate = pending.before

    def _put(self, found: Mapping[str, Any]) -> bool:
        """Put a policy in force; False, and it is said, when it cannot be."""
        try:
            joined = join(self.own, read(found))
            self._enforce(joined)
        except BadPolicy as error:
            health.note("guard_policy_refused")
            health.warn("guard-policy", "The ledger's policy cannot be enforced, the one before stays: %s" % error)
            return False
        return True

    def _enforce(self, joined: Joined) -> None:
        words = repr(joined)
        if words == self._words or self._closed:
            return
        rules = {budget.name: Rule(budget).name for budget in joined.policy.budgets if budget.name in joined.lent}
        named = {rules[name]: there for name, there in joined.lent.items()}
        self.store.serve(named, joined.policy.on_store_failure == "closed")
        self._apply(joined.policy, self.store)
        self._words = words
        if self._settings.inline:  # no thread looks again: the calls do
            state.gate = Pending(self, state.gate)

    # -- the copy

    def _path(self) -> str:
        return os.path.join(self._settings.state_dir, "policy", destination_of(self._settings) + ".json")

    def _copied(self) -> Optional[Dict[str, Any]]:
        try:
            with open(self._path(), "rb") as file:
                found = json.loads(file.read(MOST))
        except (OSError, ValueError, RecursionError):
            return None
        return found if isinstance(found, dict) else None

    def _copy(self, found: Mapping[str, Any]) -> None:
        try:
            files.private_folder(self._settings.state_dir, "policy")
            files.replace(self._path(), json.dumps(found, separators=(",", ":")).encode())
        except OSError as error:
            health.note("guard_policy_not_copied:%s" % type(error).__name__)


def start(settings: Settings, own: Policy, holder: Callable[[], str]) -> Enforced:
    """Enforce the ledger's budgets beside those of `own`. Raises BadPolicy when those cannot be enforced."""
    beside = open_store(own.store, own.name, settings.state_dir) if own.budgets else None

    def apply(policy: Policy, store: Store) -> None:
        enforcing.start(policy, settings, store)

    enforced = Enforced(settings, own, beside, holder, apply)
    enforced.start()
    return enforced


class Pending:
    """The gate until the first policy is known: a call waits a moment for it, and is asked as the policy says then."""

    def __init__(self, enforced: Enforced, before: Any) -> None:
        self._enforced = enforced
        self.before = before

    def _now(self) -> Any:
        """The gate that is set by now; the one before when no policy comes."""
        gate = state.gate
        while isinstance(gate, Pending):
            gate = gate.before
        return gate

    def ask(self, call: Any) -> Any:
        self._enforced.tend()
        if not self._enforced.looked and self._enforced.ready.wait(FIRST):
            self._enforced.ready.set()  # for whoever waits besides
        gate = self._now()
        return None if gate is None else gate.ask(call)

    async def aask(self, call: Any) -> Any:
        import asyncio

        await aside.run(self._enforced.tend, (), at_once=False)
        until = time.monotonic() + FIRST
        while state.gate is self and not self._enforced.looked and time.monotonic() < until:  # noqa: ASYNC110  # set by a thread that knows no loop
            await asyncio.sleep(0.01)
        gate = self._now()
        return None if gate is None else await gate.aask(call)

    def settle(self, held: Any, receipts: Sequence[Any]) -> None:
        gate = self._now()
        if gate is not None:
            gate.settle(held, receipts)

    def release(self, held: Any) -> None:
        gate = self._now()
        if gate is not None and held is not None:
            gate.release(held)

    def lost(self, held: Any) -> None:
        gate = self._now()
        if gate is not None and held is not None:
            gate.lost(held)

    def passing(self, held: Any, call: Any, data: bytes) -> Optional[BaseException]:
        gate = self._now()
        if gate is None or held is None:
            return None
        error: Optional[BaseException] = gate.passing(held, call, data)
        return error


def _now() -> int:
    return time.time_ns() // 1_000_000
