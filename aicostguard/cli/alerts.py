"""The verb `alerts`: what fires, the rules, who is told; and how that is changed.

Owns its options and exit codes. A file is asked and changed as a running ledger is: both lead to the same office.
"""

from __future__ import annotations

import json
import sys
from typing import Any, Callable, Mapping
from urllib.parse import quote, urlencode

import click

from aicostguard import ledger
from aicostguard.cli import VERBS, alertshown, ask, chosen, options
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.alerts import status
from aicostguard.ledger.alerts.incident import STATES
from aicostguard.ledger.alerts.office import Office
from aicostguard.ledger.alerts.rule import ACTIONS, COMPARISONS, DEFAULTS, EVENTS, PERIODS, SORTS, UNITS
from aicostguard.ledger.alerts.watch import Watch
from aicostguard.ledger.budgets.desk import Desk

#: the exit code of `check` when something fires
FIRES = 3
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, as the API gives it.")
Where = tuple[str | None, str | None, str | None]
Answer = Mapping[str, Any]


class Ledger:
    """The ledger that the options name: over HTTP, or its file."""

    def __init__(self, where: Where) -> None:
        options.one_place(where[0], where[1])
        self._at = ask.where(*where)
        self.local = self._at.url is None

    def do(self, method: str, path: str, job: Callable[[Office], Answer], body: Answer | None = None) -> Answer:
        """What the route `/v1/alerts…` says, or the office of the file."""
        if self._at.url is not None:
            sent = {} if body is None and method == "POST" else body
            return ask.exchange(self._at, method, "alerts" + path, sent)
        with ask.opened(self._at.path, create=method == "POST") as store:
            desk = Desk(store, ledger.now_ms)
            watch = Watch(store, ledger.now_ms, before=desk.catch_up)
            return job(Office(watch, chosen.of(store), Actor(options.operator()), ledger.now_ms))


def _say(answer: Answer, as_json: bool, shown: Callable[[Any], str]) -> None:
    sys.stdout.write(json.dumps(answer, indent=2) + "\n" if as_json else shown(answer))
    sys.stdout.flush()


def _asks(command: Any) -> Any:
    """`--json` and the options that name a ledger, here or before the command."""

    @click.pass_obj
    def run(before: Where, /, path: str | None, url: str | None, key: str | None, **given: Any) -> Any:
        where = (path or before[0], url or before[1], key or before[2])
        return command(Ledger(where), **given)

    run.__doc__ = command.__doc__
    run.__name__ = command.__name__
    run.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    return options.asks(_json(run))


@click.group(short_help=VERBS["alerts"], invoke_without_command=True)
@_json
@options.asks
@click.pass_context
def alerts(context: click.Context, as_json: bool, path: str | None, url: str | None, key: str | None) -> int:
    """What fires, and who is told of it.

    Without a command: what is open. `aicg serve` looks at the rules by itself and sends what is to be sent; `check`
    does it once, for a ledger that nobody serves.
    """
    context.obj = (path, url, key)
    if context.invoked_subcommand is not None:
        return 0
    return _list(Ledger(context.obj), {"state": "open"}, as_json)


def _list(at: Ledger, given: Mapping[str, str], as_json: bool) -> int:
    _say(at.do("GET", f"?{urlencode(given)}", lambda office: office.alerts(given)), as_json, alertshown.alerts)
    return 0


@alerts.command("list", short_help="what fires, and what did")
@click.option("--state", help=f"open, {', '.join(STATES)}, with commas. Default: all.")
@click.option("--rule", help="Only those of this rule.")
@click.option("--since", shell_complete=options.SPANS, help="Only those that began since: 24h, 7d, today, a date.")
@click.option("--limit", type=click.IntRange(1, status.MOST), help=f"At most. Default: {status.DEFAULT_LIMIT}.")
@click.option("--cursor", help="Go on after an earlier answer.")
@_asks
def list_(at: Ledger, as_json: bool, **given: Any) -> int:
    """Alerts, the newest first."""
    return _list(at, {name: str(value) for name, value in given.items() if value is not None}, as_json)


@alerts.command("check", short_help="look at every rule now; exit code 3 when something fires")
@click.option("--send", is_flag=True, help="Also send what is to be sent (a ledger that is served does it by itself).")
@_asks
def check(at: Ledger, as_json: bool, send: bool) -> int:
    """Look at every rule now, and say what is open. Exit code 3 when something is, 1 when a rule failed, else 0."""
    if send and not at.local:
        raise click.UsageError("--send is for a file; a running ledger sends by itself")

    def job(office: Office) -> Answer:
        found = office.check()
        if send:
            office.deliver()
        return found

    answer = at.do("POST", "/check", job)
    _say(answer, as_json, alertshown.checked)
    return FIRES if answer["alerts"] else 1 if answer["faults"] else 0


@alerts.command("rules", short_help="the rules; one, when it is named")
@click.argument("name", required=False)
@_asks
def rules(at: Ledger, as_json: bool, name: str | None) -> int:
    """The rules, what fires by them, and which could not be looked at."""
    if name is None:
        _say(at.do("GET", "/rules", Office.rules), as_json, alertshown.rules)
    else:
        _say(at.do("GET", f"/rules/{_quoted(name)}", lambda office: office.one_rule(name)), as_json, alertshown.rule)
    return 0


def _quoted(name: str) -> str:
    return quote(name, safe="")


#: option → the key it sets, and how click reads it
_SETTINGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "--threshold": ("threshold", {"help": "Fires above; dollars for spend and single_request."}),
    "--action": ("action", {"type": click.Choice(list(ACTIONS))}),
    "--period": ("period", {"type": click.Choice(PERIODS), "help": "spend. Default: day."}),
    "--tz": ("timezone", {"help": "Zone of hours and days, e.g. Europe/Berlin. Default: UTC."}),
    "--match": ("match", {"multiple": True, "metavar": "NAME=VALUE", "help": "spend: only such calls; repeatable."}),
    "--per": ("per", {"metavar": "NAME", "help": "spend: each value of it by itself."}),
    "--window-minutes": ("window_minutes", {"help": "rate_spike. Default: 10."}),
    "--min-usd": ("min_usd", {"help": "rate_spike: less is no spike. Default: 10."}),
    "--min-calls": ("min_calls", {"help": "cost_per_call. Default: 50."}),
    "--query": ("query", {"multiple": True, "metavar": "NAME=VALUE", "help": "query: as of /v1/costs; repeatable."}),
    "--measure": ("measure", {"type": click.Choice(list(UNITS)), "metavar": "NAME", "help": "query."}),
    "--comparison": ("comparison", {"type": click.Choice(COMPARISONS)}),
    "--budget": ("budgets", {"multiple": True, "help": "budget: only this one; repeatable."}),
    "--clear": ("clear", {"help": "Over at or below this share of the threshold. Default: 0.9."}),
    "--hold": ("hold_s", {"metavar": "SECONDS", "help": "… for so long. Default: 300."}),
    "--once-per": ("once_per", {"type": click.Choice(PERIODS), "help": "What comes back within it is not told."}),
    "--notify": ("notify", {"multiple": True, "type": click.Choice(EVENTS), "help": "Default: firing."}),
    "--channel": ("channels", {"multiple": True, "help": "Tell only this one; repeatable. Default: all."}),
    "--enable/--disable": ("enabled", {"default": None, "help": "Look at it, or not."}),
}


def _settings(command: Any) -> Any:
    for name, (key, how) in reversed(list(_SETTINGS.items())):
        command = click.option(name, key, **how)(command)
    return command


def _stated(given: Mapping[str, Any]) -> dict[str, Any]:
    body = {name: value for name, value in given.items() if value not in (None, ())}
    for name in ("match", "query"):
        if name in body:
            pairs: dict[str, list[str]] = {}
            for item in body[name]:
                label, equals, value = item.partition("=")
                if not equals:
                    raise click.BadParameter(f"{item!r}: use NAME=VALUE", param_hint=f"--{name}")
                pairs.setdefault(label, []).append(value)
            body[name] = pairs
    return {name: list(value) if isinstance(value, tuple) else value for name, value in body.items()}


@alerts.command("add", short_help="a new rule")
@click.argument("name")
@click.option("--kind", type=click.Choice(list(SORTS)), default="spend", show_default=True)
@_settings
@_asks
def add(at: Ledger, as_json: bool, **given: Any) -> int:
    """Make the rule NAME.

    \b
    aicg alerts add search --threshold 20 --period day --match team=search
    aicg alerts add users --threshold 5 --per user --action flag
    aicg alerts add dear --kind query --query since=24h --query group_by=feature \\
                         --measure cost_per_call_usd --threshold 0.05
    """
    body = _stated(given)
    _say(at.do("POST", "/rules", lambda office: office.add_rule(body), body), as_json, alertshown.rule)
    return 0


@alerts.command("edit", short_help="change a rule")
@click.argument("name")
@click.option("--rename", metavar="NAME", help="Its new name.")
@_settings
@_asks
def edit(at: Ledger, as_json: bool, name: str, rename: str | None, **given: Any) -> int:
    """Change the rule NAME: what is not named stays as it is."""
    body = {**_stated(given), **({"name": rename} if rename else {})}
    path = f"/rules/{_quoted(name)}"
    _say(at.do("PATCH", path, lambda office: office.change_rule(name, body), body), as_json, alertshown.rule)
    return 0


@alerts.command("remove", short_help="forget a rule")
@click.argument("name")
@_asks
def remove(at: Ledger, as_json: bool, name: str) -> int:
    """Forget the rule NAME; what fires by it is over, the history stays."""
    done = at.do("DELETE", f"/rules/{_quoted(name)}", lambda office: office.remove_rule(name))
    _say(done, as_json, lambda answer: f"removed {answer['removed']}\n")
    return 0


@alerts.command("restore", short_help="bring back rules there were from the start")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@_asks
def restore(at: Ledger, as_json: bool, names: tuple[str, ...]) -> int:
    """Bring back the rules NAME as they were from the start; without a name, those of them that were removed."""
    first = {str(stated["name"]): dict(stated) for stated in DEFAULTS}
    for name in names:
        if name not in first:
            raise click.BadParameter(f"{name!r} is none of those from the start: {', '.join(first)}", param_hint="NAME")
    there = {row["name"] for row in at.do("GET", "/rules", lambda office: office.rules())["rules"]}
    for name in names or [name for name in first if name not in there]:
        if name in there:
            at.do("DELETE", f"/rules/{_quoted(name)}", lambda office, name=name: office.remove_rule(name))  # type: ignore[misc]
        at.do("POST", "/rules", lambda office, name=name: office.add_rule(first[name]), first[name])  # type: ignore[misc]
    _say(at.do("GET", "/rules", lambda office: office.rules()), as_json, alertshown.rules)
    return 0


@alerts.command("ack", short_help="say that somebody looks after it")
@click.argument("number", type=click.IntRange(1))
@_asks
def ack(at: Ledger, as_json: bool, number: int) -> int:
    """Acknowledge the alert NUMBER."""
    _say(at.do("POST", f"/{number}/ack", lambda office: office.ack(number)), as_json, alertshown.one)
    return 0


@alerts.command("snooze", short_help="hear nothing of it for a while")
@click.argument("number", type=click.IntRange(1))
@click.option("--minutes", type=click.IntRange(1), help="For so long.")
@click.option("--until", help="Until then: 2026-11-30T08:00+01:00; tomorrow.")
@_asks
def snooze(at: Ledger, as_json: bool, number: int, **given: Any) -> int:
    """Snooze the alert NUMBER. What still fires afterwards is told again."""
    body = {name: value for name, value in given.items() if value is not None}
    path = f"/{number}/snooze"
    _say(at.do("POST", path, lambda office: office.snooze(number, body), body), as_json, alertshown.one)
    return 0


@alerts.command("test", short_help="send a test to the channels")
@click.argument("channel", required=False)
@_asks
def test(at: Ledger, as_json: bool, channel: str | None) -> int:
    """Send a test to CHANNEL, or to all, and say what came of it. Exit code 1 when one was not taken."""
    body = {"channel": channel} if channel else {}
    answer = at.do("POST", "/test", lambda office: office.test(channel), body)
    _say(answer, as_json, alertshown.tested)
    return 0 if all(row["ok"] for row in answer["tested"]) else 1


@alerts.group("channels", short_help="who is told; add, edit, remove, log", invoke_without_command=True)
@_json
@options.asks
@click.pass_context
def channels(context: click.Context, as_json: bool, path: str | None, url: str | None, key: str | None) -> int:
    """Where alerts are told. Addresses are shown masked."""
    before = context.obj
    context.obj = (path or before[0], url or before[1], key or before[2])
    if context.invoked_subcommand is None:
        _say(Ledger(context.obj).do("GET", "/channels", Office.channels), as_json, alertshown.channels)
    return 0


def _address(text: str | None) -> str | None:
    if text != "-":
        return text
    if sys.stdin.isatty():
        return str(click.prompt("address", hide_input=True))
    return sys.stdin.readline().strip()


@channels.command("add", short_help="a new channel")
@click.argument("name")
@click.argument("address")
@click.option("--secret", help="What a webhook is signed with. Default: one is made, and shown once.")
@_asks
def add_channel(at: Ledger, as_json: bool, name: str, address: str, secret: str | None) -> int:
    """Tell alerts at ADDRESS: https://… for a signed webhook, or an address of apprise (slack://, mailto://, …).

    An ADDRESS of - is read from stdin or asked for, which keeps it out of the shell's history.
    """
    body = {"name": name, "url": _address(address), **({"secret": secret} if secret else {})}
    _say(at.do("POST", "/channels", lambda office: office.add_channel(body), body), as_json, alertshown.channel)
    return 0


@channels.command("edit", short_help="change a channel")
@click.argument("name")
@click.option("--address", help="Its new address; - reads it from stdin.")
@click.option("--secret", help="What it is signed with from now on.")
@click.option("--rename", metavar="NAME", help="Its new name.")
@click.option("--enable/--disable", "enabled", default=None, help="Tell alerts there, or not.")
@_asks
def edit_channel(
    at: Ledger,
    as_json: bool,
    name: str,
    address: str | None,
    secret: str | None,
    rename: str | None,
    enabled: bool | None,
) -> int:
    """Change the channel NAME."""
    stated = {"url": _address(address), "secret": secret, "name": rename, "enabled": enabled}
    body = {key: value for key, value in stated.items() if value is not None}
    path = f"/channels/{_quoted(name)}"
    _say(at.do("PATCH", path, lambda office: office.change_channel(name, body), body), as_json, alertshown.channel)
    return 0


@channels.command("remove", short_help="forget a channel")
@click.argument("name")
@_asks
def remove_channel(at: Ledger, as_json: bool, name: str) -> int:
    """Forget the channel NAME, what was still to be sent there, and its log."""
    done = at.do("DELETE", f"/channels/{_quoted(name)}", lambda office: office.remove_channel(name))
    _say(done, as_json, lambda answer: f"removed {answer['removed']}\n")
    return 0


@channels.command("log", short_help="what was sent there, and what came of it")
@click.argument("name")
@click.option("--limit", type=click.IntRange(1, 1000), default=50, show_default=True)
@_asks
def log(at: Ledger, as_json: bool, name: str, limit: int) -> int:
    """What was sent to the channel NAME, with every attempt, the newest first."""
    path = f"/channels/{_quoted(name)}/log?limit={limit}"
    _say(at.do("GET", path, lambda office: office.log(name, limit)), as_json, alertshown.log)
    return 0
