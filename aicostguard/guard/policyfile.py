"""The policy file: `aicostguard.yaml` beside a program, or wherever `AICG_POLICY` says.

Owns its keys and how they become a `Policy`. All of it is checked before any of it is used, and every mistake is told
with file, line, key, value and remedy: a rule that is half understood would be a budget that does not hold. Of an
`aegis.yaml` only `cost:` is read. docs/budgets.md is the reference.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

from aicostguard.guard import costs, rules, stated
from aicostguard.guard.policy import BadPolicy, Budget, Policy
from aicostguard.guard.rules import Kind, Wrong
from aicostguard.guard.store import SERVERS
from aicostguard.pricing import located
from aicostguard.pricing.located import Located

#: what is looked for in the folder of the entry script, in this order
NAMES = ("aicostguard.yaml", "aicostguard.yml", "aicostguard.json", "aegis.yaml", "aegis.yml")
#: bytes: a policy is written by hand
MOST = 1_000_000
_FOREIGN = ("aegis.yaml", "aegis.yml")
_STORES = ("sqlite:///", *(scheme + "://" for scheme in SERVERS))


class Loaded(NamedTuple):
    """A file that was understood. `notices` are sentences for its author."""

    policy: Policy
    path: str
    notices: Tuple[str, ...] = ()


def find(folder: Optional[str] = None) -> Optional[str]:
    """The policy file in `folder`, by default that of the entry script; None when there is none."""
    if folder is None:
        script = getattr(sys.modules.get("__main__"), "__file__", None)
        if not script:
            return None
        folder = os.path.dirname(os.path.abspath(script))
    paths = (os.path.join(folder, name) for name in NAMES)
    return next((path for path in paths if os.path.isfile(path)), None)


def load(path: str) -> Loaded:
    """Read a policy file. BadPolicy has a line of text for each mistake."""
    path = os.path.abspath(path)
    reader = _Reader(path)
    made = reader.policy(_read(path))
    if reader.problems:
        raise BadPolicy("\n".join(reader.problems))
    return Loaded(made, path, tuple(reader.notices))


def _read(path: str) -> Located:
    try:
        with open(path, "rb") as file:
            data = file.read(MOST + 1)
        if len(data) > MOST:
            raise BadPolicy("%s: is larger than %d bytes, and no policy is" % (path, MOST))
        return located.read(data.decode("utf-8-sig"), yaml=not path.endswith(".json"))
    except OSError as error:
        raise BadPolicy("%s: cannot be read (%s)" % (path, error.strerror or type(error).__name__)) from None
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise BadPolicy("%s:%d: is not UTF-8: save it as UTF-8" % (path, line)) from None
    except located.Unreadable as error:
        raise BadPolicy("%s:%d: %s" % (path, error.line, error)) from None
    except RecursionError:
        raise BadPolicy("%s: is nested too deeply" % path) from None


class _Reader:
    """One file being read. Goes on after a mistake, so that all are told at once."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.problems: List[str] = []
        self.notices: List[str] = []
        self.names: Dict[str, int] = {}

    def wrong(self, line: int, message: str) -> None:
        self.problems.append("%s:%d: %s" % (self.path, line, message))

    def members(self, node: Located, field: str, known: Mapping[str, Any]) -> Dict[str, Located]:
        """The members of a map that are known and have a value; the others are told."""
        if type(node.value) is not dict:
            self.wrong(node.line, "%s: write keys with values below it" % (field or "the policy"))
            return {}
        found: Dict[str, Located] = {}
        for name, value in node.value.items():
            full = "%s.%s" % (field, name) if field else name
            if name not in known:
                self.wrong(value.line, "%s: there is no such key: %s" % (full, rules.meant(name, known)))
            elif value.value is None:
                self.wrong(value.line, "%s: has no value: give it one, or take the line out" % full)
            else:
                found[name] = value
        return found

    def value(self, node: Located, field: str, kind: Kind) -> Any:
        """What the value of a key is to its rule; None after a mistake."""
        try:
            return rules.read(kind, field, _plain(node))
        except BadPolicy as error:
            self.wrong(node.line, str(error))
            return None

    def policy(self, root: Located) -> Policy:
        if root.value in (None, {}):
            self.wrong(root.line, "the file is empty: write `cost:` or `budgets:` with limits")
            return Policy()
        if os.path.basename(self.path) in _FOREIGN:
            root = self.only_cost(root)
        members = self.members(root, "", _TOP)
        read = {
            name: self.value(members[name], name, kind(self.path)) for name, kind in _SCALARS.items() if name in members
        }
        cost = self.cost(members["cost"]) if "cost" in members else {}
        for name in cost:
            self.names[name] = 0
        budgets = self.budgets(members["budgets"]) if "budgets" in members else ()
        made = costs.policy(cost, read.get("name") or self.path, read.get("store") or "sqlite", budgets)
        return made._replace(prices=read.get("prices"), audit=read.get("audit"))

    def only_cost(self, root: Located) -> Located:
        """An `aegis.yaml`: whatever else it configures is not ours."""
        if type(root.value) is not dict:
            return root
        others = [name for name in root.value if name != "cost"]
        if others:
            self.notices.append("%s: only cost: is read; not read: %s" % (self.path, ", ".join(others)))
        return root._replace(value={name: value for name, value in root.value.items() if name == "cost"})

    def cost(self, node: Located) -> Dict[str, Any]:
        members = self.members(node, "cost", rules.COST)
        read = {name: self.value(value, "cost." + name, rules.COST[name]) for name, value in members.items()}
        return {name: value for name, value in read.items() if value is not None}

    def budgets(self, node: Located) -> Tuple[Budget, ...]:
        if type(node.value) is not list:
            self.wrong(node.line, "budgets: write a list, each budget beginning with `- name:`")
            return ()
        found = (self.budget(item, "budgets[%d]" % number) for number, item in enumerate(node.value, 1))
        return tuple(budget for budget in found if budget is not None)

    def budget(self, node: Located, field: str) -> Optional[Budget]:
        before = len(self.problems)
        members = self.members(node, field, stated.KINDS)
        for key, value in members.items():
            self.value(value, "%s.%s" % (field, key), stated.KINDS[key])
        if len(self.problems) > before:
            return None
        try:
            made = stated.budget({key: _plain(value) for key, value in members.items()}, field + ".")
        except BadPolicy as error:
            self.wrong(node.line, str(error))
            return None
        if made.name in self.names:
            first = "in line %d" % self.names[made.name] if self.names[made.name] else "as a key of cost:"
            text = "%s.name: %r stands twice (first %s): choose another"
            self.wrong(members["name"].line, text % (field, made.name, first))
        self.names[made.name] = members["name"].line
        return made


def _plain(node: Located) -> Any:
    """The value without its lines. Numbers are text still, so that none becomes a binary fraction."""
    if type(node.value) is dict:
        return {name: _plain(value) for name, value in node.value.items()}
    return [_plain(item) for item in node.value] if type(node.value) is list else node.value


def _version(_: str) -> Kind:
    return rules.choice("1")


def _store(_: str) -> Kind:
    def read(value: Any) -> str:
        if value not in ("memory", "sqlite") and not str(value).startswith(_STORES):
            raise Wrong
        return str(value)

    return Kind(read, "use memory, sqlite, sqlite:///PATH or redis://HOST:PORT/DB")


def _beside(exists: bool) -> Callable[[str], Kind]:
    """A path, relative to the policy file."""

    def kind(policy: str) -> Kind:
        def read(value: Any) -> str:
            if not value.strip():
                raise Wrong
            path = os.path.join(os.path.dirname(policy), os.path.expanduser(value))
            if exists and not os.path.isfile(path):
                raise Wrong("there is no file %s: write its path from the policy's folder" % path)
            return path

        return Kind(read, "use the path of a file")

    return kind


_SCALARS: Dict[str, Callable[[str], Kind]] = {
    "version": _version,
    "name": lambda _: rules.NAME,
    "store": _store,
    "prices": _beside(True),
    "audit": _beside(False),
}
_TOP = {**_SCALARS, "cost": None, "budgets": None}
