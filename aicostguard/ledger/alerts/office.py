"""What people do about alerts, in one place for API and CLI: rules, answers, channels, tests.

Owns the order of steps and who is written down as having done it. Thin: what is decided is decided in `rule`, `book`
and `channel`.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any, Callable, Mapping, TypeVar

from aicostguard.guard import rules as reading
from aicostguard.ledger import period
from aicostguard.ledger.access import audit
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.alerts import book, channel, outbox, rule, status, telling
from aicostguard.ledger.alerts.watch import Watch
from aicostguard.ledger.errors import Refused

T = TypeVar("T")
MINUTE_MS = 60_000
#: snoozed no longer than that
LONGEST_MS = 400 * 86_400_000


class Office:
    """Alerts of one project, for one person."""

    def __init__(self, watch: Watch, project_id: int, who: Actor, now: Callable[[], int]) -> None:
        self._watch = watch
        self._store = watch.store
        self._project = project_id
        self._actor = who
        self._who = who.who
        self._now = now
        watch.give()

    def _change(
        self,
        what: str,
        target: str,
        job: Callable[[sqlite3.Connection], T],
        before: Mapping[str, Any] | None = None,
        after: Mapping[str, Any] | None = None,
    ) -> T:
        """Change something, with its line in the audit log."""

        def noted(connection: sqlite3.Connection) -> T:
            found = job(connection)
            audit.note(
                connection, self._now(), self._actor, what, target, project_id=self._project, before=before, after=after
            )
            return found

        return self._store.change(noted)

    def _look(self, job: Callable[..., T], *more: Any) -> T:
        return self._store.look(lambda connection: job(connection, self._project, *more))

    def alerts(self, given: Mapping[str, str]) -> dict[str, Any]:
        asked = status.parse(given, self._now())
        # Budgets' thresholds are passed while others count; who asks must not wait for the next look.
        self._watch.check(self._project, ("budget",))
        return self._look(status.alerts, asked, self._watch.settings.public_url)

    def check(self) -> dict[str, Any]:
        """Look at every rule now: what is open, and which rules could not be looked at."""
        self._watch.check(self._project)
        asked = status.parse({"state": "open", "limit": str(status.MOST)}, self._now())
        faulty = [row for row in self.rules()["rules"] if row["fault"]]
        return {
            **self._look(status.alerts, asked, self._watch.settings.public_url),
            "faults": [{"rule": row["name"], "fault": row["fault"]} for row in faulty],
        }

    def deliver(self) -> None:
        """Send what is to be sent, once."""
        while self._watch.deliver():
            pass

    def rules(self) -> dict[str, Any]:
        return self._look(status.rules)

    def one_rule(self, name: str) -> dict[str, Any]:
        return self._look(status.one_rule, name)

    def add_rule(self, given: Mapping[str, Any]) -> dict[str, Any]:
        stated = rule.read(given)
        self._known(stated)
        self._change(
            "alert_rule.created",
            stated.name,
            lambda connection: book.add(connection, self._project, stated, self._who, self._now()),
            after=rule.written(stated),
        )
        self._watch.reload()
        return self.one_rule(stated.name)

    def change_rule(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        old = self._look(book.need, name).rule
        stated = rule.changed(old, given)
        self._known(stated)
        self._change(
            "alert_rule.changed",
            name,
            lambda connection: book.change(connection, self._project, name, given, self._who, self._now()),
            rule.written(old),
            rule.written(stated),
        )
        self._watch.reload()
        return self.one_rule(stated.name)

    def _known(self, stated: rule.Rule) -> None:
        names = [its.name for its in self._look(channel.of_project)]
        for name in stated.channels:
            if name not in names:
                known = reading.meant(name, names) if names else "there are none yet"
                raise Refused(422, f"there is no channel {name!a}: {known}", "channels")

    def remove_rule(self, name: str) -> dict[str, Any]:
        old = json.loads(self._look(book.need, name).text)
        self._change(
            "alert_rule.removed",
            name,
            lambda connection: book.remove(connection, self._project, name, self._now()),
            before=old,
        )
        self._watch.reload()
        return {"removed": name}

    def ack(self, number: int) -> dict[str, Any]:
        return self._answer(number, "acknowledged", 0)

    def snooze(self, number: int, given: Mapping[str, Any]) -> dict[str, Any]:
        return self._answer(number, "snoozed", until(given, self._now()))

    def _answer(self, number: int, state: str, until_ms: int) -> dict[str, Any]:
        self._change(
            f"alert.{state}",
            str(number),
            lambda connection: book.answer(connection, self._project, number, state, self._who, self._now(), until_ms),
        )
        return self._look(status.one, number, self._watch.settings.public_url)

    def channels(self) -> dict[str, Any]:
        return self._look(status.channels)

    def one_channel(self, name: str) -> dict[str, Any]:
        return self._look(status.one_channel, name)

    def log(self, name: str, limit: int) -> dict[str, Any]:
        return self._look(status.log, name, limit)

    def add_channel(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The channel; a webhook's secret is told this once."""
        stated = channel.read(given)
        made = self._change(
            "alert_channel.created",
            stated.name,
            lambda connection: channel.add(connection, self._project, stated, self._who, self._now()),
            after=_shown(stated),
        )
        return {**self.one_channel(made.name), **({"secret": made.secret} if made.secret else {})}

    def change_channel(self, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
        old = self._look(channel.need, name)
        stated = channel.read(given, old)
        self._change(
            "alert_channel.changed",
            name,
            lambda connection: channel.change(connection, self._project, name, stated, self._who, self._now()),
            _shown(old),
            _shown(stated),
        )
        return self.one_channel(stated.name)

    def remove_channel(self, name: str) -> dict[str, Any]:
        old = self._look(channel.need, name)
        self._change(
            "alert_channel.removed",
            name,
            lambda connection: channel.remove(connection, self._project, name),
            before=_shown(old),
        )
        return {"removed": name}

    def test(self, name: str | None) -> dict[str, Any]:
        """Send a test to one channel or to all, now; what came of it. What failed is not tried again."""
        its = [self._look(channel.need, name)] if name else self._look(channel.of_project)
        if not its:
            raise Refused(422, "there is no channel yet to test; add one", "channel")
        now_ms = self._now()
        numbers = self._store.change(
            lambda connection: [
                outbox.add(connection, self._project, one.id, "test", telling.TEST, now_ms, outbox.LEASE_MS)
                for one in its
            ]
        )
        for start in range(0, len(numbers), outbox.AT_ONCE):
            self._watch.deliver(numbers[start : start + outbox.AT_ONCE])
        self._store.change(lambda connection: outbox.give_up(connection, numbers, self._now()))
        told = {one.name: self.log(one.name, 50)["log"] for one in its}
        return {"tested": [_tested(name, rows) for name, rows in told.items()]}


def _shown(its: channel.Stated | channel.Channel) -> dict[str, Any]:
    """A channel as it stands in the audit log: without its address and secret."""
    return {"kind": its.kind, "url": its.shown, "enabled": its.enabled}


def _tested(name: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    last = next(row for row in rows if row["event"] == "test")
    said = last["attempts"][-1]["said"] if last["attempts"] else "the ledger is being stopped"
    return {"channel": name, "ok": last["state"] == "sent", "said": said, "id": last["id"]}


def until(given: Mapping[str, Any], now_ms: int) -> int:
    """Until when, of `{"minutes": 60}` or `{"until": "2026-11-30T08:00"}`. Raises `Refused` (422)."""
    for name in given:
        if name not in ("minutes", "until"):
            raise Refused(422, "is not known here; give minutes or until", ascii(str(name)[:64])[1:-1])
    if ("minutes" in given) == ("until" in given):
        raise Refused(422, "or until must be given, one of them", "minutes")
    if "minutes" in given:
        number = reading.decimal(given["minutes"], 1)
        if number is None or not 1 <= number <= LONGEST_MS // MINUTE_MS:
            raise Refused(422, f"must be a whole number from 1 to {LONGEST_MS // MINUTE_MS}", "minutes")
        return now_ms + number * MINUTE_MS
    if not isinstance(given["until"], str):
        raise Refused(422, "must be a text such as 2026-11-30T08:00", "until")
    found = period.start(given["until"], now_ms, period.zone("UTC"), "until")
    if not now_ms < found <= now_ms + LONGEST_MS:
        raise Refused(422, "must lie in the future, by 400 days at most; without an offset it is UTC", "until")
    return found
