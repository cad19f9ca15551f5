"""`import aicostguard.auto`: the one line that switches metering on; `auto_instrument`: the one that enforces.

Owns the wiring: settings → capture → delivery, and the guard. Without `AICG_URL` and `AICG_POLICY` the import does
nothing at all: no hook, no file, no connection. It never raises: whatever is wrong with the settings is said once, and
the host program goes on. `auto_instrument` does: a budget that cannot be kept is its caller's to know.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Callable, Dict, Optional, Sequence

from aicostguard import config
from aicostguard.clock import clock
from aicostguard.health import health
from aicostguard.receipt import Receipt

if TYPE_CHECKING:
    from aicostguard.delivery import Delivery
    from aicostguard.guard.costs import CostConfig
    from aicostguard.guard.enforcing import Source
    from aicostguard.guard.policy import Policy
    from aicostguard.guard.remote import Enforced

#: seconds that a flush may wait for estimates when it is not told
FLUSH_SECONDS = 10.0

_settings: Optional[config.Settings] = None
_delivery: Optional[Delivery] = None
_enforced: Optional[Enforced] = None
_ending = False
_lock = threading.RLock()  # reentrant: a finaliser may deliver while the sender is made


def activate(settings: config.Settings) -> bool:
    """Hook the AI libraries and deliver to where `settings` says. False, and no effect, without a destination."""
    global _settings
    if not settings.active:
        return False
    from aicostguard.capture.state import state

    _settings = settings
    # Now: a function that is registered while the interpreter ends is never called, and the first AI call may be then.
    atexit.unregister(_end)
    atexit.register(_end)
    state.deliver = _deliver if _delivery is None else _delivery.submit
    state.adeliver = _adeliver
    _hook(settings)
    return True


def auto_instrument(cost: Optional[CostConfig] = None, policy: Source = None) -> None:
    """Enforce budgets on every AI call of this program, from here on; needs neither `AICG_KEY` nor `AICG_URL`.

    `cost` are limits written in code, `policy` is the path of a policy file; with neither, `aicostguard.yaml` in the
    folder of the entry script. A call without room raises `BudgetExceeded` and is not sent. Called again, the new
    rules take the place of the old ones. Raises `BadPolicy` (a ValueError) when the rules cannot be used.
    """
    from aicostguard.guard import enforcing

    settings = config.load(os.environ) if _settings is None else _settings
    rules = enforcing.policy_of(cost, policy)
    if not settings.disabled:
        _enforce(rules, settings)


def _enforce(rules: Policy, settings: config.Settings) -> None:
    """Hook the AI libraries, whether receipts go anywhere or not, and set the gate."""
    from aicostguard.guard import enforcing

    if settings.enforce is None or not _with_ledger(rules, settings):
        enforcing.start(rules, settings)
    if not activate(settings):
        _hook(settings)


def _with_ledger(rules: Policy, settings: config.Settings) -> bool:
    """`AICG_ENFORCE=ledger`: the ledger's budgets beside the program's own. False, and it is said, without a ledger."""
    global _enforced
    if not settings.active or settings.sqlite_path is not None:
        health.warn("enforce", "aicostguard: AICG_ENFORCE=ledger needs the AICG_URL of a running ledger, and AICG_KEY")
        return False
    from aicostguard.guard import remote

    if _enforced is not None:
        _enforced.stop()
    _enforced = remote.start(settings, rules, _epoch)
    return True


def _epoch() -> str:
    """The name of this process on its receipts."""
    if _delivery is None:
        _build()
    assert _delivery is not None
    return _delivery.epoch


def _hook(settings: config.Settings) -> None:
    from aicostguard.capture import caller, hooks
    from aicostguard.capture.state import state

    state.inline = settings.inline
    state.core = settings.receipt == "core"
    state.ask = settings.stream_usage == "request"
    state.hosts = settings.hosts
    state.rule = caller.Rule(settings.feature_skip, settings.feature_style == "qualified")
    state.default = settings.feature_default
    state.automatic = settings.auto_labels
    state.salt = settings.key or ""
    if settings.watchdog:
        from aicostguard.capture import watchdog

        watchdog.install(settings.url, _tell)
    hooks.install(_build if settings.active else None)


def observe(listener: Callable[[Receipt], None]) -> Optional[Callable[[], None]]:
    """Hook the AI libraries and show `listener` each receipt, whether it is delivered anywhere or not.

    Called on whatever thread ends the call; what `listener` raises is a fault of ours, and is counted, and the receipt
    is delivered all the same. Returns what ends it; None, and no effect, when `AICG_DISABLED` says so.
    """
    from aicostguard.capture.state import state

    settings = config.load(os.environ) if _settings is None else _settings
    if settings.disabled:
        return None
    before = state.deliver, state.adeliver
    onward, aonward = before
    listening = True

    def show(receipt: Receipt) -> None:
        try:
            if listening:
                listener(receipt)
        except Exception as error:
            health.fault("auto.observe", error)

    def seen(receipt: Receipt) -> None:
        if onward is not None:
            onward(receipt)
        show(receipt)

    async def aseen(receipts: Sequence[Receipt]) -> None:
        if aonward is not None:
            await aonward(receipts)
        for receipt in receipts:
            show(receipt)

    def stop() -> None:
        nonlocal listening
        listening = False  # whoever has put himself in front of us since goes on calling us
        if state.deliver is seen:
            state.deliver, state.adeliver = before

    if _settings is None:
        _hook(settings)
    state.deliver, state.adeliver = seen, aseen
    return stop


def divert(route: Callable[[Receipt], Receipt]) -> bool:
    """Hook the AI libraries and have `route` see each receipt before it is delivered: what it returns is, in its place.

    Called on whatever thread ends the call; when `route` raises, that is a fault of ours, and the receipt goes on as it
    is. Doing it again does nothing, unless metering was set up anew meanwhile. False, and no effect, when
    `AICG_DISABLED` says so.
    """
    from aicostguard.capture.state import state

    settings = config.load(os.environ) if _settings is None else _settings
    if settings.disabled:
        return False
    if getattr(state.deliver, "route", None) is route:
        return True
    onward, aonward = state.deliver, state.adeliver

    def routed(receipt: Receipt) -> Receipt:
        try:
            return route(receipt)
        except Exception as error:
            health.fault("auto.divert", error)
            return receipt

    def seen(receipt: Receipt) -> None:
        receipt = routed(receipt)
        if onward is not None:
            onward(receipt)

    async def aseen(receipts: Sequence[Receipt]) -> None:
        receipts = [routed(receipt) for receipt in receipts]
        if aonward is not None:
            await aonward(receipts)

    seen.route = route  # type: ignore[attr-defined]
    if _settings is None:
        _hook(settings)
    # Six keys would not say whose a receipt is. Delivery leaves the others out of what it sends all the same.
    state.core = False
    state.deliver, state.adeliver = seen, aseen
    return True


def uninstrument() -> None:
    """Take every hook out again, and enforce nothing. Receipts that are under way are still delivered; see `flush`."""
    from aicostguard.capture import hooks

    hooks.uninstall()
    from aicostguard.capture.state import state

    if _enforced is not None:
        _enforced.stop()
    if state.gate is not None:
        from aicostguard.guard import enforcing

        enforcing.stop()
    if state.watchdog is not None:
        state.watchdog.on = False


def flush(timeout: Optional[float] = None) -> bool:
    """Wait until every receipt made so far is delivered. False when that could not be done in `timeout` seconds."""
    scores = sys.modules.get("aicostguard.delivery.scored")  # loaded with the first score
    began = clock.monotonic()
    told = scores is None or bool(scores.flush(FLUSH_SECONDS if timeout is None else timeout))
    left = None if timeout is None else max(0.0, timeout - (clock.monotonic() - began))
    return (_delivery is None or _delivery.flush(_after_estimates(left))) and told


def shutdown(timeout: Optional[float] = None) -> bool:
    """Deliver what waits and stop the sender. False when something had to stay behind (it is in the spool)."""
    return True if _delivery is None else _delivery.shutdown(_after_estimates(timeout))


def _after_estimates(timeout: Optional[float]) -> Optional[float]:
    """Wait for the estimates under way; how much is left of `timeout` seconds."""
    from aicostguard.capture.state import state

    if state.estimates is None:
        return timeout
    left = state.estimates.flush(FLUSH_SECONDS if timeout is None else timeout)
    return None if timeout is None else left


def stats() -> Dict[str, Any]:
    """Counters, faults, warnings, hooks and the state of delivery, as diagnose shows them."""
    from aicostguard.capture import hooks

    shown = health.snapshot()
    shown["active"] = _settings is not None
    shown["hooks"] = hooks.states()
    shown["delivery"] = {} if _delivery is None else _delivery.stats()
    return shown


def _build() -> None:
    """Make the sender, once, on the way of an import rather than of the first call. It starts no thread yet."""
    global _delivery
    with _lock:
        if _delivery is None and _settings is not None:
            from aicostguard.capture import hooks
            from aicostguard.capture.state import state
            from aicostguard.delivery import Delivery, register_status

            if sys.implementation.name != "cpython":
                from aicostguard.capture import uncollected

                uncollected.install()
            register_status(hooks.states)
            _delivery = Delivery(_settings, _ending)
            if state.deliver is _deliver:
                state.deliver = _delivery.submit
            state.inline = _delivery.inline  # also where there can be no thread
            if not (_delivery.inline or _ending) and _settings.receipt == "full":
                _estimate()


def _estimate() -> None:
    """Estimate where a provider tells no usage, if the extra is installed."""
    from aicostguard.capture import estimating
    from aicostguard.capture.state import state

    state.estimates = estimating.make()


def _end() -> None:
    """The end of the program. Never raises."""
    global _ending
    _ending = True
    from aicostguard.capture.state import state

    uncollected = sys.modules.get("aicostguard.capture.uncollected")
    if uncollected is not None:
        uncollected.end()
    if state.estimates is not None:
        state.estimates.close()
    if _delivery is not None:
        _delivery.leave()
    if _enforced is not None:
        _enforced.leave()


def _tell() -> None:
    """Write the status file though no receipt is made."""
    if _delivery is None:
        _build()
    if _delivery is not None:
        _delivery.tell()


def _deliver(receipt: Receipt) -> None:
    if _delivery is None:
        _build()
    assert _delivery is not None
    _delivery.submit(receipt)


async def _adeliver(receipts: Sequence[Receipt]) -> None:
    if _delivery is None:
        _build()
    assert _delivery is not None
    await _delivery.asubmit(receipts)


def _start() -> None:
    try:
        settings = config.load(os.environ)
        if settings.disabled:
            return
        for problem in settings.problems:
            health.warn("setting:" + problem[:40], "aicostguard: " + problem)
        activate(settings)
        if settings.policy is not None:
            _from_file(settings.policy, settings)
        elif settings.enforce is not None:
            from aicostguard.guard.policy import Policy

            _enforce(Policy(), settings)
    except Exception as error:
        health.fault("auto", error)


def _from_file(path: str, settings: config.Settings) -> None:
    """`AICG_POLICY`: a file that cannot be used is said, and stops nobody."""
    from aicostguard.guard import enforcing
    from aicostguard.guard.policy import BadPolicy

    try:
        _enforce(enforcing.policy_of(None, path), settings)
    except BadPolicy as error:
        health.note("policy_refused")
        health.warn("policy", "aicostguard: no budget is enforced: %s" % error)


_start()
