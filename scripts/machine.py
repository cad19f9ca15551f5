"""What a check needs of the machine: commands that end, interpreters, virtual environments.

Used by `scripts/test`, and by every script that makes environments. Nothing here knows what is checked.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from threading import Lock
from typing import Any, Dict, List, Optional, Sequence, Set, TextIO, Tuple

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
#: where `scripts/pythons` puts interpreters
FETCHED = CACHE / "pythons"

Version = Tuple[int, int]
SUPPORTED: Tuple[Version, ...] = ((3, 9), (3, 10), (3, 11), (3, 12), (3, 13), (3, 14), (3, 15))
#: seconds after which a command is ended and has failed
PATIENCE = 3600


class Failed(Exception):
    """A command of ours did not succeed; its text is the end of what it printed."""


class Commands:
    """The commands that run now, in whatever thread: each in a session of its own, so that Ctrl-C does not reach it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: List[subprocess.Popen[str]] = []
        self._over = False

    def start(self, words: List[str], **how: Any) -> subprocess.Popen[str]:
        """Begin one. Raises Failed once `end` was called."""
        with self._lock:
            if self._over:
                raise Failed("interrupted before: " + " ".join(words))
            process = subprocess.Popen(words, start_new_session=True, text=True, errors="replace", **how)
            self._running.append(process)
            return process

    def done(self, process: subprocess.Popen[str]) -> None:
        """It has ended and was waited for."""
        with self._lock:
            self._running.remove(process)

    def end(self) -> None:
        """End all of them with what they have started, and begin no other: for an interrupt."""
        with self._lock:
            self._over = True
            for process in self._running:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)


COMMANDS = Commands()


def run(
    command: Sequence[object],
    cwd: Path = ROOT,
    show: bool = False,
    env: Optional[Dict[str, str]] = None,
    log: Optional[TextIO] = None,
) -> str:
    """Run a command in its own process group, to its end or to PATIENCE. Raises Failed.

    Its output is shown as it comes, or goes to `log`, or is given back.
    """
    words = [str(word) for word in command]
    process = COMMANDS.start(
        words,
        cwd=str(cwd),
        env=env or environment(),
        stdin=subprocess.DEVNULL,
        stdout=log or (None if show else subprocess.PIPE),
        stderr=None if show else subprocess.STDOUT,
    )
    try:
        output, _ = process.communicate(timeout=PATIENCE)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Failed("ended after %d s: %s" % (PATIENCE, " ".join(words))) from None
        raise
    finally:
        COMMANDS.done(process)
    if process.returncode:
        tail = "\n".join((output or "").splitlines()[-60:])
        raise Failed("exit %d: %s\n%s" % (process.returncode, " ".join(words), tail))
    return output or ""


def environment() -> Dict[str, str]:
    """The environment of every command: no settings of ours, no foreign virtual environment, bytecode kept."""
    drop = ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE", "PYENV_VERSION")
    env = {k: v for k, v in os.environ.items() if k not in drop and (k == "AICG_CORPUS" or not k.startswith("AICG_"))}
    env["AICG_TEST_RAISE"] = "1"
    return env


def interpreters() -> Dict[Version, str]:
    """CPython versions that are present and start, by version. This interpreter counts first."""
    found: Dict[Version, str] = {}
    candidates = [sys.executable]
    for version in SUPPORTED:
        name = "python%d.%d" % version
        candidates += [os.path.join(folder, name) for folder in os.environ.get("PATH", "").split(os.pathsep)]
        candidates.append(str(FETCHED / "usr" / "bin" / name))
        roots = {os.environ.get("PYENV_ROOT", ""), os.path.expanduser("~/.pyenv")} - {""}
        for root in sorted(roots):
            candidates += sorted(glob.glob(os.path.join(root, "versions", "*", "bin", name)), reverse=True)
    for path in candidates:
        if not os.access(path, os.X_OK):
            continue
        try:
            told = subprocess.run(
                [path, "-c", "import sys, venv; print(sys.implementation.name, *sys.version_info[:2])"],
                capture_output=True,
                text=True,
                timeout=30,
                stdin=subprocess.DEVNULL,
            ).stdout.split()
        except (OSError, subprocess.TimeoutExpired):
            continue
        if len(told) == 3 and told[0] == "cpython":  # a pyenv shim of a version that is not active tells nothing
            version = (int(told[1]), int(told[2]))
            if version in SUPPORTED:
                found.setdefault(version, path)
    return found


def say(text: str) -> None:
    print("--- " + text, flush=True)


class Environments:
    """The virtual environments, made when first asked for and kept while pyproject.toml stays as it is."""

    def __init__(self, pythons: Dict[Version, str], main: Version, fresh: bool) -> None:
        self.pythons, self.main, self.fresh = pythons, main, fresh
        self._uv: Optional[str] = None
        self._fresh: Set[Version] = set()
        self._made: Dict[Version, Lock] = {version: Lock() for version in pythons}

    def python(self, version: Version, extras: str) -> Path:
        """The interpreter of a ready environment with the project (editable) and these extras."""
        with self._made[version]:
            return self._python(version, extras)

    def _python(self, version: Version, extras: str) -> Path:
        folder = ROOT / (".venv-test" if version == self.main else ".venv-test-%d.%d" % version)
        python = folder / "bin" / "python"
        stamp = folder / "stamp"
        text = (ROOT / "pyproject.toml").read_bytes() + ("%s %s" % (self.pythons[version], extras)).encode()
        want = hashlib.sha256(text).hexdigest()
        if (self.fresh and version not in self._fresh) or not stamp.is_file() or stamp.read_text() != want:
            say("setting up %s" % folder.name)
            self.create(folder, version)
            self.install(python, ["-e", "%s[%s]" % (ROOT, extras)])
            stamp.write_text(want)
            self._fresh.add(version)
        return python

    def other(self, folder: Path, version: Version, packages: Sequence[str]) -> Path:
        """The interpreter of an environment of packages alone, kept while they are the same."""
        python, stamp = folder / "bin" / "python", folder / "stamp"
        want = "%s %s" % (self.pythons[version], " ".join(packages))
        if not stamp.is_file() or stamp.read_text() != want:
            say("setting up %s" % folder.name)
            self.create(folder, version)
            self.install(python, packages)
            stamp.write_text(want)
        return python

    def create(self, folder: Path, version: Version) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        run([self.pythons[version], "-m", "venv", folder])

    def install(self, python: Path, what: Sequence[object]) -> None:
        """Install with uv where it can be had; with pip where it cannot, or where it does not succeed."""
        uv = self.uv(python)
        if uv:
            try:
                run([uv, "pip", "install", "--quiet", "--python", python, *what])
                return
            except Failed as error:
                say("uv did not succeed (%s); trying pip" % str(error).split("\n")[-1].strip())
        run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *what])

    def uv(self, python: Path) -> Optional[str]:
        if self._uv is None:
            self._uv = shutil.which("uv") or ""
            if not self._uv:
                try:
                    run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "uv"])
                    kept = CACHE / "uv"  # environments come and go
                    CACHE.mkdir(exist_ok=True)
                    shutil.copy2(python.parent / "uv", kept)
                    self._uv = str(kept)
                except (Failed, OSError):
                    say("no uv to be had; installing with pip, which takes longer")
        return self._uv or None
