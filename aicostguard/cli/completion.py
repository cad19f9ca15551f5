"""`aicg completion`: verbs, options and choices of `aicg` by the tab key, in bash, zsh and fish.

Owns the command that prints a shell's script, and what the verbs that are not click's complete. The shell asks by
running `aicg` with `_AICG_COMPLETE` set: nothing is written down in the script that a release could make wrong.
"""

from __future__ import annotations

import argparse
import importlib
from typing import Any, Callable, Iterable, Iterator, Sequence

import click
from click.shell_completion import CompletionItem, get_completion_class

from aicostguard.cli import CORE, VERBS
from aicostguard.cli import run as launcher

Item = CompletionItem[str]
VARIABLE = "_AICG_COMPLETE"
#: shell → where its script goes, so that every new shell has it
SHELLS = {
    "bash": "aicg completion bash > ~/.local/share/bash-completion/completions/aicg",
    "zsh": "aicg completion zsh > ~/.zfunc/_aicg    # with fpath+=~/.zfunc before compinit in ~/.zshrc",
    "fish": "aicg completion fish > ~/.config/fish/completions/aicg.fish",
}


@click.command(short_help=VERBS["completion"])
@click.argument("shell", type=click.Choice(tuple(SHELLS)))
def completion(shell: str) -> int:
    """Print what makes the tab key complete verbs, options and choices in SHELL.

    For this shell alone: source <(aicg completion bash). For every new one, see below.
    """
    found = get_completion_class(shell)
    assert found is not None, shell
    click.echo(found(click.Command("aicg"), {}, "aicg", VARIABLE).source())
    return 0


completion.epilog = "\b\n" + "\n".join(SHELLS.values())


def names(known: Iterable[str], *, many: bool = False, ending: str = "") -> Callable[..., list[Item]]:
    """For `shell_complete=`: the names of `known`; with `many`, one more behind each comma."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[Item]:
        before, comma, begun = incomplete.rpartition(",") if many else ("", "", incomplete)
        given = before.split(",")
        return [
            CompletionItem(f"{before}{comma}{name}{ending}")
            for name in known
            if name.startswith(begun) and name not in given
        ]

    return complete


class Foreign(click.Command):
    """A verb that takes its words itself (those of `CORE`): here it is listed and completed."""

    def shell_complete(self, context: click.Context, incomplete: str) -> list[Item]:
        words, name = list(context.args), str(self.name)
        if name == "run":
            return list(_of_launcher(words, incomplete))
        parser: argparse.ArgumentParser = importlib.import_module(CORE[name][0]).parser()
        return list(_of_parser(parser, words, incomplete))


def _of_launcher(words: Sequence[str], incomplete: str) -> Iterator[Item]:
    """Options of `aicg run` up to the command; then whatever file is there."""
    waits = False  # for the value of an option
    for word in words:
        if not waits and not word.startswith("-"):
            yield CompletionItem(incomplete, type="file")
            return
        waits = not waits and word in launcher.OPTIONS and launcher.OPTIONS[word][1] is None
    if waits or not incomplete.startswith("-"):
        yield CompletionItem(incomplete, type="file")
        return
    for option, (_, _, says) in launcher.OPTIONS.items():
        if option.startswith(incomplete):
            yield CompletionItem(option, help=says)


def _of_parser(parser: argparse.ArgumentParser, words: Sequence[str], incomplete: str) -> Iterator[Item]:
    """What an argparse parser takes next: commands, options, choices, else files."""
    actions: dict[str, Any] = {option: action for action in parser._actions for option in action.option_strings}
    commands = next((action for action in parser._actions if isinstance(action, argparse._SubParsersAction)), None)
    for place, word in enumerate(words):
        if commands is not None and word in commands.choices:
            yield from _of_parser(commands.choices[word], words[place + 1 :], incomplete)
            return
    if incomplete.startswith("-"):
        for option, action in actions.items():
            if option.startswith(incomplete):
                yield CompletionItem(option, help=action.help)
    elif words and words[-1] in actions and actions[words[-1]].nargs != 0:
        return
    elif commands is not None:
        helps = {action.dest: action.help for action in commands._choices_actions}
        for name in commands.choices:
            if name.startswith(incomplete):
                yield CompletionItem(name, help=helps.get(name))
    elif any(not action.option_strings for action in parser._actions):
        yield CompletionItem(incomplete, type="file")
