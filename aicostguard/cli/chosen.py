"""Which of a ledger's projects is asked: the one that `--project` names, else the first of a file, or the key's.

Owns that option, and the sentence without which the figures of one project pass for all that a file holds.
"""

from __future__ import annotations

from typing import Any, Callable, TypeVar

import click

from aicostguard.ledger.sqlite import SqliteStore

F = TypeVar("F", bound=Callable[..., Any])

#: where a command's context keeps the name
_NAMED = "aicostguard.project"
#: others that are named
_FEW = 5


def _keep(context: click.Context, _: click.Parameter, name: str | None) -> None:
    if name:
        context.meta[_NAMED] = name


option: Callable[[F], F] = click.option(
    "--project",
    metavar="NAME",
    expose_value=False,
    callback=_keep,
    help="NAME or ORGANISATION/NAME, where a ledger has several. Default: the first; with --url the key's.",
)


def name() -> str | None:
    """What `--project` says; None without it."""
    context = click.get_current_context(silent=True)
    return None if context is None else context.meta.get(_NAMED)


def of(store: SqliteStore) -> int:
    """The project that is asked. If there are others and none was named, that is said once. Raises `Refused`."""
    from aicostguard.ledger.access import places

    wanted = name()
    if wanted is not None:
        return store.look(lambda connection: places.project_named(connection, wanted, field="--project")).id
    first = store.default_project()
    every = store.look(places.projects)
    context = click.get_current_context(silent=True)
    if len(every) > 1 and context is not None and _NAMED not in context.meta:
        context.meta[_NAMED] = None
        own = next(f"{one.organisation}/{one.name}" for one in every if one.id == first)
        others = [f"{one.organisation}/{one.name}" for one in every if one.id != first]
        more = f" and {len(others) - _FEW} more" if len(others) > _FEW else ""
        click.echo(
            f"! This is project {own} alone; not in it: {', '.join(others[:_FEW])}{more}. --project NAME asks another.",
            err=True,
        )
    return first
