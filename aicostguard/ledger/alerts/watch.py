"""The watch: looks at every rule when it is time, and sends what is to be sent.

Owns when which rule is looked at, and that one which fails or is slow does not cost the others. While nothing comes in
and nothing is due, a tick is one question. A rule that took long is let rest: looking takes a twentieth of the time at
most. Every state is in the file, so that several processes, and one after another, tell of a thing once.
"""

from __future__ import annotations

import concurrent.futures
import logging
import os
import time
from typing import Any, Callable, Mapping, NamedTuple, Sequence

from aicostguard.ledger.access.opened import PUBLIC_URL
from aicostguard.ledger.alerts import (
    apprised,
    book,
    channel,
    incident,
    minutes,
    outbox,
    picture,
    readings,
    status,
    target,
    telling,
)
from aicostguard.ledger.alerts.book import Kept
from aicostguard.ledger.alerts.outbox import Notice
from aicostguard.ledger.alerts.rule import SORTS
from aicostguard.ledger.alerts.webhook import Outcome, post
from aicostguard.ledger.apart import Cuts
from aicostguard.ledger.errors import LedgerError
from aicostguard.ledger.sqlite import SqliteStore

log = logging.getLogger("aicostguard.ledger")
#: after something came in, a rule is looked at no more often
SOONEST_MS = 5_000
#: rules that somebody else has changed are noticed after that long
RELOAD_MS = 15_000
#: for each second that a look took, a rule rests so many
REST = 19
FORGET_EVERY_MS = 3_600_000


class Settings(NamedTuple):
    """What the operator decides: where the page is found, which private networks may be sent to, charts or none."""

    public_url: str = ""
    private: str = ""
    charts: bool = True


def settings(environ: Mapping[str, str] = os.environ, public_url: str = "") -> Settings:
    """From the environment. Raises `LedgerError` for what cannot be meant."""
    url = public_url or environ.get(PUBLIC_URL, "").strip()
    if url and (not url.startswith(("http://", "https://")) or any(char in url for char in "?# ")):
        raise LedgerError(f"{PUBLIC_URL}: {url[:200]!r} is no address of a page; use https://host[:port][/path]")
    private = environ.get(target.SETTING, "").strip()
    try:
        target.networks(private)
    except ValueError as error:
        raise LedgerError(str(error)) from None
    charts = environ.get(picture.SETTING, "").strip() or "1"
    if charts not in ("0", "1"):
        raise LedgerError(
            f"{picture.SETTING}: {charts[:64]!a} is neither 1 (charts go with alerts) nor 0 (they do not)"
        )
    return Settings(url.rstrip("/"), private, charts == "1")


class _Due:
    """When a rule was looked at last, and before when it is not again."""

    def __init__(self, changed_ms: int) -> None:
        self.changed_ms = changed_ms
        self.last_ms = -(2**60)
        self.rest_ms = 0
        self.counted = -1


class Watch:
    """Alerts over one ledger file. `now` is the ledger's clock in ms."""

    def __init__(
        self,
        store: SqliteStore,
        now: Callable[[], int],
        given: Settings | None = None,
        before: Callable[[], object] = lambda: None,
    ) -> None:
        """`before` brings up to date what rules look at (budgets' counters)."""
        self.store = store
        self.settings = settings() if given is None else given
        self._now = now
        self._before = before
        self._rules: list[Kept] = []
        self._loaded_ms = -(2**60)
        self._due: dict[int, _Due] = {}
        self._usual: dict[Any, Any] = {}
        self._forgot_ms = 0
        self._cuts: Cuts = set()
        self._stopping = False
        self.pictures = picture.Pictures(store, self._cuts)

    # Looking.

    def tick(self) -> int:
        """Look at the rules whose time has come; gives how many. Cheap when there are none."""
        now_ms = self._now()
        counted = minutes.catch_up(self.store, now_ms)
        if abs(now_ms - self._loaded_ms) >= RELOAD_MS:
            self._load(now_ms)
        due = [kept for kept in self._rules if self._is_due(kept, counted, now_ms)]
        for kept in due:
            self._look(kept, counted)
        if now_ms - self._forgot_ms >= FORGET_EVERY_MS:
            self._forgot_ms = now_ms
            self.store.change(lambda connection: book.forget(connection, now_ms))
            self.store.change(lambda connection: outbox.forget(connection, now_ms))
        return len(due)

    def check(self, project_id: int, kinds: Sequence[str] = tuple(SORTS)) -> None:
        """Look at the rules of a project now, whenever they were looked at last."""
        self._load(self._now())
        counted = minutes.catch_up(self.store, self._now())
        for kept in self._rules:
            if kept.project_id == project_id and self._kind(kept) in kinds:
                self._look(kept, counted)

    def _load(self, now_ms: int) -> None:
        """Read the rules; a project that is new is given those that there are from the start."""
        self.give()
        self._loaded_ms = now_ms
        self._rules = self.store.look(book.everybody)
        old = self._due
        self._due = {kept.id: old.get(kept.id) or _Due(kept.changed_ms) for kept in self._rules}
        for kept in self._rules:
            if self._due[kept.id].changed_ms != kept.changed_ms:  # as if it were new
                self._due[kept.id] = _Due(kept.changed_ms)

    def reload(self) -> None:
        """Rules were changed here: the next look reads them."""
        self._loaded_ms = -(2**60)

    def give(self) -> None:
        for project_id in self.store.look(book.ungiven):
            self.store.change(lambda connection: book.give(connection, project_id, self._now()))  # noqa: B023

    @staticmethod
    def _kind(kept: Kept) -> str:
        try:
            return kept.rule.kind
        except LedgerError:  # written by a newer release: said when it is looked at
            return "query"

    def _is_due(self, kept: Kept, counted: int, now_ms: int) -> bool:
        due, every_s = self._due.get(kept.id), SORTS[self._kind(kept)].every_s
        if due is None:
            return True
        since = now_ms - due.last_ms
        if since < 0:  # the clock was put back
            return True
        return since >= due.rest_ms and (since >= every_s * 1000 or (counted != due.counted and since >= SOONEST_MS))

    def _look(self, kept: Kept, counted: int) -> None:
        now_ms, began = self._now(), time.monotonic()
        due = self._due.get(kept.id) or _Due(kept.changed_ms)  # another thread may have read the rules anew
        due.last_ms, due.counted = now_ms, counted
        try:
            self._settle(kept, now_ms)
            fault = None
        except Exception as error:
            # The text of an unforeseen error may quote a value: only its type is kept.
            said = str(error) if isinstance(error, LedgerError) else "it failed; the ledger's log says where"
            fault = f"{type(error).__name__}: {said}"
            if fault != kept.fault:
                log.exception("the alert rule %d could not be looked at", kept.id)
        due.rest_ms = int((time.monotonic() - began) * 1000) * REST
        if fault != kept.fault:
            try:
                self.store.change(lambda connection: book.note_fault(connection, kept.id, fault, now_ms))
                self._rules = [item._replace(fault=fault) if item.id == kept.id else item for item in self._rules]
            except LedgerError as error:
                log.error("the fault of a rule could not be noted: %s", error)

    def _settle(self, kept: Kept, now_ms: int) -> None:
        its = kept.rule
        if not its.enabled:
            return
        if its.kind == "budget":
            self._before()
        sight = readings.Sight(self.store, kept.project_id, now_ms, self._usual)
        found = readings.READERS[its.kind](its, sight)
        past = [reading.scope for reading in found if incident.over(its, reading)]

        def follow(connection: Any) -> list[incident.Move]:
            lasts = book.lasts(connection, kept.id, past)
            seen = [reading for reading in found if reading.scope in lasts or reading.scope in past]
            return incident.steps(its, lasts, seen, now_ms)

        if self.store.look(follow):
            # Once more under the write lock: another process may have been first.
            self.store.change(lambda connection: book.apply(connection, kept, follow(connection), now_ms))

    # Telling.

    def deliver(self, only: Sequence[int] = ()) -> int:
        """Send what is to be sent now, several at a time; gives how many were tried. Ends by the senders' deadlines."""
        now_ms = self._now()
        if self._stopping:
            return 0
        if not only and not self.store.look(lambda connection: outbox.waits(connection, now_ms)):
            return 0
        taken = self.store.change(lambda connection: outbox.take(connection, now_ms, only))
        if taken:
            with concurrent.futures.ThreadPoolExecutor(len(taken), "aicg-alert") as pool:
                list(pool.map(self._send, taken))
        return len(taken)

    def _send(self, notice: Notice) -> None:
        began_ms = self._now()
        its = self.store.look(lambda connection: channel.by_id(connection, notice.channel_id))
        if its is None:
            return
        try:
            outcome = self._exchange(its, notice)
        except Exception as error:  # whatever it is, it must not end the others, and may quote the address
            outcome = Outcome(False, f"the ledger failed ({type(error).__name__})")
        cut = self._stopping and not outcome.ok
        try:
            self.store.change(
                lambda connection: outbox.done(connection, notice, outcome, began_ms, self._now(), counts=not cut)
            )
        except LedgerError as error:
            log.error("what came of an alert's notice could not be noted: %s", error)
        if not outcome.ok and not cut:
            log.warning("channel %r of alerts: attempt %d failed: %s", its.name, notice.attempt, outcome.said)

    def _exchange(self, its: channel.Channel, notice: Notice) -> Outcome:
        public, private, charts = self.settings
        where = self.store.look(lambda connection: status.located(connection, its.project_id, public))
        drawn = self.pictures.of(notice, its.project_id, self._now()) if charts else None
        if its.kind == "webhook":
            body = telling.payload(notice, its.name, where, drawn)
            networks = target.networks(private)
            return post(its.url, its.secret, notice.key, body, self._now() / 1000, networks, self._cuts)
        message = telling.text(notice, its.url, where)
        # A service that takes the text may refuse the picture: a second attempt goes without.
        attached = drawn.data if drawn is not None and notice.attempt == 1 else b""
        return apprised.send(its.url, notice.key, *message, private, self._cuts, attached)

    def stop(self) -> None:
        """Cut off what is being sent: it stays to be sent."""
        self._stopping = True
        for cut in list(self._cuts):
            cut()
