"""`aicg people`: accounts for those who look at the ledger in a browser, as click commands.

Owns their options and what they print. They work on the ledger's file, like `aicg keys`: the first admin is made here,
by whoever may write that file.
"""

from __future__ import annotations

import sqlite3
import sys
from typing import Any

import click

from aicostguard import ledger
from aicostguard.cli import VERBS, ask
from aicostguard.cli.access import DB, IN_PROJECT, JSON, columns, operator, project, say
from aicostguard.ledger.access import passwords
from aicostguard.ledger.access import people as accounts
from aicostguard.ledger.access.principal import LEDGER, ORGANISATION, PROJECT, REACHES
from aicostguard.ledger.access.told import account
from aicostguard.ledger.sqlite import SqliteStore

_ROLE = click.option("--role", type=click.Choice(accounts.ROLES), help="What they may, within --reach.")
_REACH = click.option("--reach", default=PROJECT, type=click.Choice(REACHES), show_default=True, help="Where they may.")
_STDIN = click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")


@click.group(short_help=VERBS["people"])
def people() -> None:
    """Accounts for people: they log in with a password, or through an OpenID Connect provider."""


def _typed(email: str, stdin: bool) -> str:
    if stdin:
        given = sys.stdin.readline().rstrip("\r\n")
    else:
        given = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return passwords.hashed(passwords.check(given, email, "password"))


def _give(
    connection: sqlite3.Connection,
    store: SqliteStore,
    person: accounts.Person,
    role: str | None,
    reach: str,
    within: str | None,
) -> None:
    found = project(connection, store, within)
    target = {PROJECT: found.id, ORGANISATION: found.organisation_id, LEDGER: 0}[reach]
    number = None if reach == LEDGER else found.organisation_id
    accounts.set_role(connection, person, reach, target, role, operator(), ledger.now_ms(), organisation_id=number)


@people.command("add", short_help="make an account")
@click.argument("email")
@click.option("--name", default="", help="What they are called.")
@_ROLE
@_REACH
@IN_PROJECT
@_STDIN
@JSON
@DB
def add(
    email: str,
    name: str,
    role: str | None,
    reach: str,
    within: str | None,
    password_stdin: bool,
    as_json: bool,
    path: str | None,
) -> int:
    """Make an account for EMAIL, and print a code with which they set their password, once, within a day.

    The first admin: aicg people add you@example.com --role admin --reach ledger
    """
    hashed = _typed(email.lower(), True) if password_stdin else None

    with ask.opened(path, create=True) as store:
        store.default_project()

        def job(connection: sqlite3.Connection) -> str | None:
            person = accounts.add(connection, email, name, operator(), ledger.now_ms())
            if role is not None:
                _give(connection, store, person, role, reach, within)
            if hashed is None:
                return accounts.code(connection, person, operator(), ledger.now_ms())
            accounts.set_password(connection, person, hashed, operator(), ledger.now_ms())
            return None

        code = store.change(job)
    _say_code(as_json, email, code)
    return 0


def _say_code(as_json: bool, email: str, code: str | None) -> None:
    said = f"{email} can log in now" if code is None else code
    say(as_json, {"email": email.lower(), "code": code}, said + "\n")
    if code is not None and not as_json:
        click.echo(f'They set a password with: POST /v1/password {{"code": "{code[:9]}…", "new": "…"}}', err=True)


@people.command("list", short_help="who has an account")
@JSON
@DB
def list_people(as_json: bool, path: str | None) -> int:
    """Who has an account, and what they may."""
    with ask.opened(path) as store:

        def job(connection: sqlite3.Connection) -> list[dict[str, Any]]:
            return [
                account(connection, person, accounts.roles(connection, person.id))
                for person in accounts.every(connection)
            ]

        found = store.look(job)
    rows = []
    for person in found:
        may = ", ".join(
            f"{role['role']} of {role['of'] or 'the ledger'}" + ("" if role["by"] == "local" else f" ({role['by']})")
            for role in person["roles"]
        )
        by = (
            "disabled"
            if person["disabled_at"]
            else person["issuer"] or ("password" if person["has_password"] else "code")
        )
        rows.append((person["email"], person["name"], may, by))
    say(
        as_json,
        found,
        columns(("e-mail", "name", "may", "logs in by"), rows)
        if rows
        else "Nobody yet: aicg people add you@example.com --role admin --reach ledger\n",
    )
    return 0


@people.command("role", short_help="give a role, or take it away")
@click.argument("email")
@click.argument("role", type=click.Choice((*accounts.ROLES, "none")))
@_REACH
@IN_PROJECT
@JSON
@DB
def role(email: str, role: str, reach: str, within: str | None, as_json: bool, path: str | None) -> int:
    """Let EMAIL be ROLE in a project, throughout its organisation or throughout the ledger; none takes it away."""
    with ask.opened(path) as store:
        store.default_project()
        given = None if role == "none" else role
        store.change(lambda c: _give(c, store, accounts.found(c, email, "EMAIL"), given, reach, within))
    say(as_json, {"email": email.lower(), "reach": reach, "role": given}, f"{email}: {role}\n")
    return 0


@people.command("disable", short_help="end what somebody may")
@click.argument("email")
@click.option("--undo", is_flag=True, help="Let them in again.")
@JSON
@DB
def disable(email: str, undo: bool, as_json: bool, path: str | None) -> int:
    """Disable the account of EMAIL: every session ends at once, and nobody logs in by it."""
    with ask.opened(path) as store:
        store.change(
            lambda c: accounts.disable(c, accounts.found(c, email, "EMAIL"), not undo, operator(), ledger.now_ms())
        )
    say(as_json, {"email": email.lower(), "disabled": not undo}, f"{email} is {'enabled' if undo else 'disabled'}\n")
    return 0


@people.command("password", short_help="another password")
@click.argument("email")
@_STDIN
@click.option("--code", "by_code", is_flag=True, help="Print a code instead, with which they set it themselves.")
@JSON
@DB
def password(email: str, password_stdin: bool, by_code: bool, as_json: bool, path: str | None) -> int:
    """Set the password of EMAIL. Whoever was logged in by the old one no longer is."""
    hashed = None if by_code else _typed(email.lower(), password_stdin)
    with ask.opened(path) as store:

        def job(connection: sqlite3.Connection) -> str | None:
            person = accounts.found(connection, email, "EMAIL")
            if hashed is None:
                return accounts.code(connection, person, operator(), ledger.now_ms())
            accounts.set_password(connection, person, hashed, operator(), ledger.now_ms())
            return None

        code = store.change(job)
    _say_code(as_json, email, code)
    return 0
