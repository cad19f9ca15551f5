"""`aicg run -- python app.py`: any Python program with the agent in it, and no line of it changed.

Owns the command line of `aicg run` and the environment of the program. It becomes the program (`exec`), so that process
id, signals, exit code, terminal and open files are the program's own and nothing of ours stands between. Runs with the
core alone, on CPython 3.9. If it breaks, the program does not start.

The agent comes in by a folder that is put first on PYTHONPATH (`site/sitecustomize.py`), which also reaches the Python
programs that the program starts. An interpreter that is told to ignore PYTHONPATH cannot be reached: that is said.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Dict, List, Mapping, MutableMapping, NamedTuple, NoReturn, Optional, Sequence, Tuple

from aicostguard import config

#: the folder with our `sitecustomize`
SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")

#: option → (variable, value; None: the next word, help)
OPTIONS: Dict[str, Tuple[str, Optional[str], str]] = {
    "--url": ("AICG_URL", None, "where receipts go: http(s)://host[:port] or sqlite:///path"),
    "--feature": ("AICG_FEATURE_DEFAULT", None, "the feature of calls that have no other"),
    "--service": ("AICG_SERVICE", None, "name of the program, as the ledger shows it"),
    "--environment": ("AICG_ENVIRONMENT", None, "production, staging, …"),
    "--release": ("AICG_RELEASE", None, "its version"),
    "--stream-usage": ("AICG_STREAM_USAGE", "request", "ask for usage on chat streams that do not"),
    "--watchdog": ("AICG_WATCHDOG", "1", "notice AI hosts that are looked up with nothing metered"),
    "--debug": ("AICG_DEBUG", "1", "a log on stderr, without any text of requests"),
}

HELP = """\
usage: aicg run [OPTIONS] [--] COMMAND [ARGUMENTS …]

Runs a command with metering on in every Python program it starts, as if `import aicostguard.auto` were its first
line. The command is run in place of this one: signals and exit code are its own.

options (each sets a variable for the command; the key has none, because others can read a command line: AICG_KEY):
%s
examples:
  aicg run -- python app.py
  aicg run --service checkout -- gunicorn -w 4 shop.wsgi
  aicg run -- celery -A tasks worker
  aicg run -- uvicorn main:app --port 8000
  aicg run --url sqlite:///costs.db -- pytest -x
  aicg run -- jupyter lab
  opentelemetry-instrument aicg run -- python app.py      (the other launcher first)

The Python that the command runs on needs aicostguard installed. Python's options -I, -E and -S keep the agent out.

exit status: the command's own; 2 wrong usage, 126 the command cannot be run, 127 it is not found.
"""

#: launchers that put a `sitecustomize` of their own before ours and do not hand over to the next one
_MASKING = ("opentelemetry-instrument",)
_PYTHON = re.compile(r"(python|pypy)[\d.]*(\.exe)?\Z")
#: Python's options that take the next word
_WITH_WORD = ("-W", "-X", "--check-hash-based-pycs")


class Wrong(Exception):
    """The command line cannot be understood; its text says why."""


class Wanted(NamedTuple):
    """What a command line asks for: variables to set, and the command."""

    variables: Dict[str, str]
    command: List[str]


def main(argv: Sequence[str]) -> int:
    """Become the command. Returns only when that is not possible, with the exit status."""
    if argv and argv[0] in ("-h", "--help"):
        sys.stdout.write(_help())
        return 0
    try:
        wanted = parse(argv)
    except Wrong as error:
        sys.stderr.write("aicg run: %s\nTry: aicg run --help\n" % error)
        return 2
    environ = environment(os.environ, wanted.variables)
    for line in remarks(wanted.command, environ):
        sys.stderr.write("aicg run: %s\n" % line)
    return _become(wanted.command, environ)


def parse(argv: Sequence[str]) -> Wanted:
    """Options up to `--` or the first word that is none; the rest is the command. Raises Wrong."""
    variables: Dict[str, str] = {}
    words = list(argv)
    while words and words[0].startswith("-"):
        word = words.pop(0)
        if word == "--":
            break
        name, equals, given = word.partition("=")
        if name not in OPTIONS:
            raise Wrong("%s is not an option of aicg run; the command's own options stand behind it" % name)
        variable, value, _ = OPTIONS[name]
        if value is not None:
            if equals:
                raise Wrong("%s takes no value" % name)
        elif equals:
            value = given
        elif words:
            value = words.pop(0)
        else:
            raise Wrong("%s needs a value" % name)
        # One variable alone may be complained about for what is missing beside it; a bad value is named first.
        for problem in config.load({variable: value}).problems:
            if problem.startswith((variable + ":", variable + "=")):
                raise Wrong("%s: %s" % (name, problem.partition(": ")[2].replace("; the default is used", "")))
        variables[variable] = value
    if not words:
        raise Wrong("no command given")
    return Wanted(variables, words)


def environment(outer: Mapping[str, str], variables: Mapping[str, str]) -> Dict[str, str]:
    """The command's environment: the outer one, the variables, and our folder first on PYTHONPATH, once."""
    environ = dict(outer)
    environ.update(variables)
    environ.pop("AICG_RUN_SAID", None)
    given = environ.get("PYTHONPATH", "")
    # An empty entry means the current folder, so none may come in by joining.
    others = [entry for entry in given.split(os.pathsep) if entry != SITE] if given else []
    environ["PYTHONPATH"] = os.pathsep.join([SITE, *others])
    return environ


def remarks(command: Sequence[str], environ: Mapping[str, str]) -> List[str]:
    """Why the agent will do nothing in this command, as far as can be told before it runs. Sentences."""
    said = []
    if config.load({key: environ[key] for key in environ if key.startswith("AICG_")}).disabled:
        said.append("AICG_DISABLED is set: nothing is metered.")
    elif not environ.get("AICG_URL"):
        said.append("AICG_URL is not set: nothing is metered. Set it, or give --url.")
    name = os.path.basename(command[0])
    if name in _MASKING:
        said.append("%s keeps the agent out when it comes second; write: %s aicg run -- …" % (name, name))
    option = _closed(command, environ)
    if option:
        said.append(
            "Python's option %s keeps the agent out; take it away, or put `import aicostguard.auto` into the program."
            % option
        )
    return said


def _closed(command: Sequence[str], environ: Mapping[str, str]) -> Optional[str]:
    """The option by which the interpreter of this command ignores PYTHONPATH or `sitecustomize`, if there is one."""
    words = list(command)
    if not _PYTHON.match(os.path.basename(words[0])):
        words = _shebang(words[0], environ)
    while words and not _PYTHON.match(os.path.basename(words[0])):  # `env -S` and what stands before the interpreter
        words.pop(0)
    words = words[1:]
    while words and words[0].startswith("-") and words[0] not in ("-", "--"):
        word = words.pop(0)
        if word in _WITH_WORD:
            words = words[1:]
        elif not word.startswith("--"):
            flags = re.split("[cmWX]", word[1:])[0]  # from there on the word is a value
            for flag in "IES":
                if flag in flags:
                    return "-" + flag
            if len(flags) < len(word) - 1 and word[1 + len(flags)] in "cm":
                break
    return None


def _shebang(name: str, environ: Mapping[str, str]) -> List[str]:
    """The words of a script's first line behind `#!`; empty when the command is no script that can be read."""
    import shutil

    path = shutil.which(name, path=environ.get("PATH"))
    try:
        with open(path or name, "rb") as file:
            line = file.readline(512)
    except OSError:
        return []
    return line[2:].decode("utf-8", "replace").split() if line.startswith(b"#!") else []


def _become(command: Sequence[str], environ: MutableMapping[str, str]) -> int:
    """Replace this process by the command. Its exit status as shells give it, when that fails."""
    sys.stdout.flush()
    sys.stderr.flush()
    _default_signals()
    try:
        _exec(command, environ)
    except FileNotFoundError:
        sys.stderr.write("aicg run: %s is not found\n" % command[0])
        return 127
    except OSError as error:
        sys.stderr.write("aicg run: %s cannot be run: %s\n" % (command[0], error.strerror))
        return 126


def _exec(command: Sequence[str], environ: MutableMapping[str, str]) -> NoReturn:
    os.execvpe(command[0], list(command), environ)


def _default_signals() -> None:
    """Python ignores these for itself, and what is ignored stays so in the program that takes our place."""
    import signal

    for name in ("SIGPIPE", "SIGXFZ", "SIGXFSZ"):
        number = getattr(signal, name, None)
        if number is not None:
            signal.signal(number, signal.SIG_DFL)


def _help() -> str:
    lines = []
    for option, (variable, value, text) in OPTIONS.items():
        lines.append("  %-24s%s (%s)\n" % (option if value else option + " VALUE", text, variable))
    return HELP % "".join(lines)
