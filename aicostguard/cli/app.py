"""The verbs that need the extra `server`, as click commands.

Owns the list of verbs, where each is, and exit codes. A verb's module is loaded when it is used: help and completion
load none of them. The work is done by `ledger`; what a table looks like, by `table`.
"""

from __future__ import annotations

import importlib
import re
import sys
from typing import Sequence

import click

from aicostguard.cli import CORE, VERBS, completion, core, output

#: verb → module of its command; the command has the verb's name, but for `_NAMED`
_MODULES = {
    "serve": "serving",
    "dashboard": "dashboard",
    "costs": "costs",
    "models": "compare",
    "compare": "compare",
    "agents": "agents",
    "focus": "focus",
    "deliveries": "follow",
    "tail": "follow",
    "top": "top",
    "budgets": "budgets",
    "alerts": "alerts",
    "price": "price",
    "reprice": "price",
    "keys": "access",
    "projects": "access",
    "people": "people",
    "backup": "keep",
    "restore": "keep",
    "salvage": "keep",
    "retention": "size",
    "archive": "size",
    "compact": "size",
    "forget": "size",
    "labels": "labels",
    "completion": "completion",
}


def run(arguments: Sequence[str]) -> int:
    """Run click without letting it end the process. Returns the exit code."""
    try:
        result = _group.main(list(arguments), prog_name="aicg", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as error:
        return error.exit_code
    except SystemExit as error:  # as click ends for a pipe that was closed, and for nothing else here
        raise output.Closed from error
    except click.Abort:
        sys.stderr.write("aicg: stopped\n")
        return 1
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except Exception as error:
        return _said(error, arguments)


def _said(error: Exception, arguments: Sequence[str]) -> int:
    """What the ledger refuses, as a person reads it, and the exit code. What is none of its errors goes on."""
    from aicostguard.ledger.errors import LedgerError, Refused  # here, so that help loads no ledger

    if isinstance(error, Refused):
        # What the ledger refuses as 422 is a wrong option here.
        names = _options(arguments)
        named = f"{names.get(error.field, error.field)}: " if error.field else ""
        said = re.sub(r"\b[a-z]+_[a-z_]+\b", lambda found: names.get(found[0], found[0]), str(error))
        sys.stderr.write(f"aicg: {named}{said}\n")
        return 2 if error.status == 422 else 1
    if isinstance(error, LedgerError):
        sys.stderr.write(f"aicg: {error}\n")
        return 1
    raise error


def _options(arguments: Sequence[str]) -> dict[str, str]:
    """What the ledger calls a value → how it is given here: `group_by` → `--by`, of the command in `arguments`."""
    command: click.Command | None = _group
    names: dict[str, str] = {}
    for word in arguments:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(click.Context(command), word) or command
    for option in command.params if command is not None else ():
        if isinstance(option, click.Option) and option.name and option.name not in ("path", "url", "key"):
            names[option.name] = max(option.opts, key=len)
    return names


def _version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        import aicostguard

        click.echo(f"aicg {getattr(aicostguard, '__version__', 'unknown')}")
        context.exit()


class _Verbs(click.Group):
    """The verbs in the order of `VERBS`, of which those that are not used are not loaded."""

    def list_commands(self, _: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, _: click.Context, name: str) -> click.Command | None:
        if name in CORE:
            return _core(name)
        if name not in _MODULES:
            return None
        found: click.Command = getattr(importlib.import_module(f"aicostguard.cli.{_MODULES[name]}"), name)
        return found

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(VERBS.items()))

    def shell_complete(self, context: click.Context, incomplete: str) -> list[completion.Item]:
        named = [completion.Item(verb, help=says) for verb, says in VERBS.items() if verb.startswith(incomplete)]
        return named + click.Command.shell_complete(self, context, incomplete)


@click.group(
    cls=_Verbs,
    help="AI Cost Guard: what your AI calls cost, to the nano-dollar.",
    epilog="Exit codes: 0 done, 1 error, 2 wrong usage, 3 a budget is used up (budgets --check) or something fires "
    "(alerts check), 4 receipts are lost (deliveries).",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Its version.")
def _group() -> None:
    pass


def _core(verb: str) -> click.Command:
    """A verb that needs no extra. Here for help and completion: `main` takes it, unless options stand first."""

    @click.pass_context
    def go(context: click.Context) -> int:
        return core(verb, context.args)

    return completion.Foreign(
        verb,
        short_help=VERBS[verb],
        callback=go,
        add_help_option=False,
        context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    )
