"""The verb `budgets`: what may be spent, what is, how long it lasts; and how that is set.

Owns its options and exit codes. A file is asked and changed as a running ledger is: both lead to the same code.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable, Mapping, Sequence
from urllib.parse import quote, urlencode

import click

from aicostguard import ledger
from aicostguard.cli import VERBS, ask, bars, chosen, options
from aicostguard.guard.policy import ON_EXCEED, PERIODS
from aicostguard.ledger.access import places
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.access.principal import ORGANISATION
from aicostguard.ledger.alerts.office import Office
from aicostguard.ledger.alerts.watch import Watch
from aicostguard.ledger.budgets import book, given, status
from aicostguard.ledger.budgets.desk import Desk
from aicostguard.ledger.errors import LedgerError, Refused
from aicostguard.ledger.sqlite import SqliteStore

#: the exit code of `--check` when a budget is used up
USED_UP = 3

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the API gives it.")
_organisation = click.option(
    "--organisation", metavar="NAME", help="The budgets that hold for all projects of it together, and no others."
)
Where = tuple[str | None, str | None, str | None]


class Ledger:
    """The ledger that the options name, over HTTP or its file; with `--organisation`, only its budgets."""

    def __init__(self, where: Where, organisation: str | None = None) -> None:
        options.one_place(where[0], where[1])
        self._at = ask.where(*where)
        self._organisation = organisation
        if organisation is not None and chosen.name() is not None:
            raise click.UsageError("--organisation means all its projects, --project one of them; give one")
        if self._at.url is not None and self._organisation is not None:
            its = str(ask.exchange(self._at, "GET", "whoami")["organisation"])
            if its.lower() != self._organisation.lower():
                raise LedgerError(f"the key is of the organisation {its}; give one of {self._organisation}")

    def _place(self, store: SqliteStore) -> int:
        """Whose budgets are meant: the organisation's, or those that hold for a project."""
        name = self._organisation
        if name is None:
            return chosen.of(store)
        return -store.look(lambda connection: places.organisation_named(connection, name, "--organisation")).id

    def get(self, path: str, job: Callable[..., dict[str, Any]], *more: Any) -> dict[str, Any]:
        """What GET says, or `job(connection, project, *more)` on the file."""
        if self._at.url is not None:
            return ask.exchange(self._at, "GET", path)
        with ask.opened(self._at.path) as store:
            desk = Desk(store, ledger.now_ms)
            desk.catch_up()
            place = self._place(store)
            return store.look(lambda connection: job(connection, place, *more))

    def put(self, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if self._at.url is not None:
            reach = {} if self._organisation is None else {"reach": ORGANISATION}
            return ask.exchange(self._at, "PUT", "budgets/" + quote(name, safe=""), {**body, **reach})
        with ask.opened(self._at.path, create=True) as store:
            place = self._place(store)
            known = store.look(lambda connection: book.find(connection, place, name))
            stated, spent, adjust = given.read_put({"name": name, **body}, None if known is None else known.budget)
            Desk(store, ledger.now_ms).put(
                place if known is None else known.owner, stated, options.operator(), spent, adjust
            )
            return store.look(lambda connection: status.detailed(connection, place, name, ledger.now_ms()))

    def remove(self, name: str) -> None:
        if self._at.url is not None:
            if self._organisation is not None:
                self.one(name)
            ask.exchange(self._at, "DELETE", "budgets/" + quote(name, safe=""))
            return
        with ask.opened(self._at.path) as store:
            Desk(store, ledger.now_ms).remove(self._place(store), name, options.operator())

    def rebuild(self, names: Sequence[str]) -> list[str]:
        if self._at.url is not None:
            if self._organisation is not None:
                names = [str(self.one(name)["name"]) for name in names] or self.names()
                if not names:
                    return []
            found: list[str] = ask.exchange(self._at, "POST", "rebuild", {"budgets": list(names)})["rebuilt"]
            return found
        with ask.opened(self._at.path) as store:
            kept = Desk(store, ledger.now_ms).rebuild(self._place(store), names, options.operator())
            return [item.name for item in kept]

    def every(self) -> dict[str, Any]:
        reach = "" if self._organisation is None else f"?reach={ORGANISATION}"
        return self.get("budgets" + reach, status.budgets, ledger.now_ms())

    def names(self) -> list[str]:
        """Of all budgets; none where there is no ledger yet."""
        if self._at.url is None and not os.path.exists(ask.place(self._at.path)):
            return []
        return [row["name"] for row in self.every()["budgets"]]

    def one(self, name: str) -> dict[str, Any]:
        found = self.get("budgets/" + quote(name, safe=""), status.detailed, name, ledger.now_ms())
        if self._organisation is not None and found["reach"] != ORGANISATION:
            raise Refused(404, f"{name[:128]!a} is a budget of a project; leave --organisation out", "name")
        return found

    def alerts(self, limit: int) -> dict[str, Any]:
        if self._organisation is not None:
            told = [alert for name in self.names() for alert in self.one(name)["alerts"]]
            return {"alerts": sorted(told, key=lambda alert: str(alert["at"]), reverse=True)[:limit]}
        given = {"kind": "budget", "limit": str(limit)}
        if self._at.url is not None:
            found = ask.exchange(self._at, "GET", f"alerts?{urlencode(given)}")
        else:
            with ask.opened(self._at.path) as store:
                watch = Watch(store, ledger.now_ms, before=Desk(store, ledger.now_ms).catch_up)
                found = Office(watch, chosen.of(store), Actor(options.operator()), ledger.now_ms).alerts(given)
        return {"alerts": found["alerts"]}


def _say(answer: Mapping[str, Any], as_json: bool, table: Callable[[Any], str]) -> None:
    sys.stdout.write(json.dumps(answer, indent=2) + "\n" if as_json else table(answer))
    sys.stdout.flush()


@click.group(short_help=VERBS["budgets"], invoke_without_command=True)
@click.option("--check", is_flag=True, help="Exit with 3 when a budget is used up.")
@_json
@_organisation
@options.asks
@click.pass_context
def budgets(
    context: click.Context,
    check: bool,
    as_json: bool,
    organisation: str | None,
    path: str | None,
    url: str | None,
    key: str | None,
) -> int:
    """What may be spent, what is spent and promised, and how long the rest lasts.

    Without a command: all budgets that hold for the project, and the latest alerts. Calls without a price are counted
    beside the money.
    """
    context.obj = (path, url, key), organisation
    if context.invoked_subcommand is not None:
        return 0
    at = Ledger((path, url, key), organisation)
    answer = {**at.every(), **at.alerts(5)}
    _say(answer, as_json, bars.budgets)
    return USED_UP if check and status.exceeded(answer["budgets"]) else 0


def _asks(command: Any) -> Any:
    """The options that name a ledger, here or before the command."""

    @click.pass_obj
    def run(
        obj: tuple[Where, str | None],
        /,
        path: str | None,
        url: str | None,
        key: str | None,
        organisation: str | None,
        **given: Any,
    ) -> Any:
        before, of = obj
        where = (path or before[0], url or before[1], key or before[2])
        return command(Ledger(where, organisation or of), **given)

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    run.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    return _organisation(options.asks(run))


def _limits(command: Any) -> Any:
    for option in (
        click.option("--on-exceed", type=click.Choice(ON_EXCEED), help="Default: block."),
        click.option(
            "--alert-at", multiple=True, metavar="SHARE", help="0.75 or 75%; repeatable. Default: 75, 90, 100."
        ),
        click.option("--tz", "timezone", help="Zone in which the period begins, e.g. Europe/Berlin. Default: UTC."),
        click.option("--period", type=click.Choice(PERIODS), help="Default: total, which never ends."),
        click.option("--per", multiple=True, metavar="LABEL", help="A limit for each value of it; repeatable."),
        click.option("--match", multiple=True, metavar="LABEL=VALUE", help="Only such calls; repeatable."),
        click.option("--requests", "limit_requests", help="The limit in requests."),
        click.option("--tokens", "limit_tokens", help="The limit in tokens."),
        click.option("--usd", "limit_usd", help="The limit in dollars, exact."),
    ):
        command = option(command)
    return command


def _stated(given: Mapping[str, Any]) -> dict[str, Any]:
    """The rule that the options state, in the policy's words."""
    body = {name: value for name, value in given.items() if value not in (None, ())}
    for name in ("per", "alert_at"):
        if name in body:
            body[name] = list(body[name])
    if "match" in body:
        pairs = [item.partition("=") for item in body["match"]]
        for label, equals, _ in pairs:
            if not equals:
                raise click.BadParameter(f"{label!r}: use LABEL=VALUE", param_hint="--match")
        body["match"] = {label: value for label, _, value in pairs}
    return body


@budgets.command("add", short_help="a new budget")
@click.argument("name")
@click.option("--spent", help="What counts as spent at the beginning. Default: what receipts of the period say.")
@_limits
@_json
@_asks
def add(at: Ledger, name: str, as_json: bool, **given: Any) -> int:
    """Make the budget NAME.

    \b
    aicg budgets add marketing --usd 500 --match team=marketing --period month --tz Europe/Berlin
    aicg budgets add users --requests 100 --per user --period day --on-exceed warn
    aicg budgets add acme-cap --usd 10000 --period month --organisation acme
    """
    if name in at.names():
        raise Refused(422, f"there is a budget {name!r} already; `aicg budgets set` changes it", "NAME")
    _say(at.put(name, _stated(given)), as_json, bars.one)
    return 0


@budgets.command("set", short_help="change a budget")
@click.argument("name")
@click.option("--spent", help="Set what stands in it, against what receipts say; needs --adjust.")
@click.option("--adjust", is_flag=True, help="Yes, set it; that is written down.")
@_limits
@_json
@_asks
def change(at: Ledger, name: str, as_json: bool, adjust: bool, **given: Any) -> int:
    """Change the budget NAME: what is not named stays as it is. A changed label, period or unit counts anew."""
    known = at.one(name)
    body = _stated(given)
    limits = [word for word in ("limit_usd", "limit_tokens", "limit_requests") if word in known]
    words = ("match", "per", "period", "timezone", "on_exceed", "alert_at")
    kept = {word: known[word] for word in (*words, *limits) if not (word in limits and set(body) & _LIMITS)}
    _say(at.put(name, {**kept, **body, **({"adjust": True} if adjust else {})}), as_json, bars.one)
    return 0


_LIMITS = {"limit_usd", "limit_tokens", "limit_requests"}


@budgets.command("remove", short_help="forget a budget")
@click.argument("name")
@_json
@_asks
def remove(at: Ledger, name: str, as_json: bool) -> int:
    """Forget the budget NAME. Its history stays."""
    at.remove(name)
    _say({"removed": name}, as_json, lambda answer: f"removed {answer['removed']}\n")
    return 0


@budgets.command("show", short_help="one budget, its history and its alerts")
@click.argument("name")
@_json
@_asks
def show(at: Ledger, name: str, as_json: bool) -> int:
    """The budget NAME scope by scope, who changed it when, and what was told."""
    _say(at.one(name), as_json, bars.one)
    return 0


@budgets.command("rebuild", short_help="count anew from receipts")
@click.argument("names", nargs=-1)
@_json
@_asks
def rebuild(at: Ledger, names: tuple[str, ...], as_json: bool) -> int:
    """Make the counters of the budgets NAMES (all of them, without any) anew from receipts.

    Where nothing was wrong nothing changes, however often.
    """
    done = at.rebuild(names)
    text = f"counted anew: {', '.join(done)}\n" if done else "there are no budgets\n"
    _say({"rebuilt": done}, as_json, lambda _: text)
    return 0
