"""Agents as a tree: who called whom, what each cost itself, what it handed on, and both together.

Owns where each cost stands. Receipts name an agent and the agent that called it, so a sum of receipts is one edge from
a caller to an agent, at any depth. Every edge stands on one line, under its caller; so what stands at the top, and what
no agent did, add up to the totals, whoever calls whom.

What an agent called by several handed on cannot be told apart by caller. It stands once, under the nearest agent that
every way to it leads through (its dominator): on the line of that one's own call, or on a line of its own where there
is none. So nobody is charged for what may have been done for another, and an agent that everything goes through is
charged for all of it. A circle is cut where it closes: the agent that is called back stands there with what that call
cost, and its own agents above. Nothing here calls itself: a chain of thousands is walked like one of two.
"""

from __future__ import annotations

from typing import Any, Iterable, Iterator, Mapping, NamedTuple, Sequence

from aicostguard.ledger import query
from aicostguard.ledger.amounts import priced, usd
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import OTHER
from aicostguard.ledger.store import Store

#: parameter → what it means; every dimension is a filter besides
PARAMETERS: Mapping[str, str] = {name: query.PARAMETERS[name] for name in ("since", "until", "tz")}
#: what a line adds up
SUMMED = ("cost_nanousd", "calls", "unpriced_calls", "estimated_calls", "input_tokens", "output_tokens")
#: of a line in a file
COLUMNS = (
    *("depth", "agent", "called_by", "direct_usd", "delegated_usd", "total_usd", *SUMMED[1:]),
    *("delegated_calls", "delegated_unpriced_calls", "elsewhere", "gathered"),
)
#: stands for what is above all agents; no agent is called that
_TOP = ""

Parameters = Mapping[str, Sequence[str]]
Sums = dict[str, int]


class Line(NamedTuple):
    """An agent where it was called from. `agent` is None for calls of a caller's that name no agent."""

    agent: str | None
    caller: str | None
    depth: int
    #: of its own calls, as called from there
    direct: Sums
    #: of everything below this line
    delegated: Sums
    #: all that call it, the top as None; empty for one that nobody calls
    callers: tuple[str | None, ...]
    #: it called others, and they stand under another line
    elsewhere: bool
    #: it stands for all its calls at once, each of which has a line of its own
    gathered: bool

    @property
    def total(self) -> Sums:
        return {name: self.direct[name] + self.delegated[name] for name in SUMMED}


class Tree(NamedTuple):
    """Lines in the order of the tree, the dearest branch first; what no agent did; what has no line: too many names."""

    lines: list[Line]
    unnamed: Sums
    other: Sums


def ask(store: Store, parameters: Parameters, project_id: int, now_ms: int) -> dict[str, Any]:
    """What `GET /v1/agents` says. Raises `Refused` (422)."""
    for name in parameters:
        if name in query.PARAMETERS and name not in PARAMETERS:
            raise Refused(422, "does not apply to the tree of agents, the dearest of which come first", name)
    asked = {**parameters, "group_by": ["parent_agent,agent"], "order": ["-cost"], "limit": [str(query.MAX_LIMIT)]}
    answer = query.run(store, query.parse(asked, project_id, now_ms))
    found = tree(answer["rows"], answer["other"])
    return {
        **{name: answer[name] for name in ("since", "until", "tz")},
        "agents": [_told(line) for line in found.lines],
        "unnamed": told(found.unnamed),
        "other": told(found.other) if found.other["calls"] else None,
        **{name: answer[name] for name in ("totals", "archived", "full")},
    }


def told(sums: Sums) -> dict[str, Any]:
    """Sums as they leave the ledger: cost is null where nothing that was called has a price."""
    cost = priced(sums)
    return {"cost_usd": None if cost is None else usd(cost), **sums, "cost_nanousd": cost}


def _told(line: Line) -> dict[str, Any]:
    return {
        "agent": line.agent,
        "called_by": line.caller,
        "depth": line.depth,
        **{name: told(getattr(line, name)) for name in ("direct", "delegated", "total")},
        "callers": list(line.callers),
        "elsewhere": line.elsewhere,
        "gathered": line.gathered,
    }


def flat(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The answer as lines of a file: those of the tree, then what has none."""
    out = []
    for line in answer["agents"]:
        row = {name: line[name] for name in ("depth", "agent", "called_by")}
        row.update({f"{part}_usd": line[part]["cost_usd"] for part in ("direct", "delegated", "total")})
        row.update({name: line["direct"][name] for name in SUMMED[1:]})
        row.update({f"delegated_{name}": line["delegated"][name] for name in ("calls", "unpriced_calls")})
        row.update({name: "yes" if line[name] else "" for name in ("elsewhere", "gathered")})
        out.append(row)
    for name in ("unnamed", "other"):
        if answer[name] and answer[name]["calls"]:
            rest = answer[name]
            row = {"depth": 0, "agent": f"({name})", "direct_usd": rest["cost_usd"], "total_usd": rest["cost_usd"]}
            out.append({**row, **{key: rest[key] for key in SUMMED[1:]}})
    return out


def dearest(lines: Sequence[Mapping[str, Any]], most: int) -> list[Mapping[str, Any]]:
    """The dearest lines of an answer, in its order. Whoever is above one of them costs no less, and is among them."""
    order = sorted(range(len(lines)), key=lambda at: (-(lines[at]["total"]["cost_nanousd"] or 0), at))
    return [lines[at] for at in sorted(order[:most])]


def tree(rows: Iterable[Mapping[str, Any]], rest: Mapping[str, Any] | None = None) -> Tree:
    """The tree of rows by `parent_agent` and `agent`; `rest` is what a limit cut off of them."""
    edges: dict[str, dict[str, Sums]] = {}
    nameless: dict[str, Sums] = {}
    unnamed, other = _zero(), _sums(rest) if rest else _zero()
    for row in rows:
        caller, agent = row["parent_agent"], row["agent"]
        if OTHER in (caller, agent):
            other = _plus(other, _sums(row))
        elif agent is None and caller is None:
            unnamed = _plus(unnamed, _sums(row))
        elif agent is None:
            nameless[caller] = _sums(row)
        else:
            edges.setdefault(caller or _TOP, {})[agent] = _sums(row)
    return Tree(_Made(edges, nameless).lines(), unnamed, other)


class _Made:
    """The tree while it is made."""

    def __init__(self, edges: Mapping[str, Mapping[str, Sums]], nameless: Mapping[str, Sums]) -> None:
        self._edges, self._nameless = edges, nameless
        self._callers: dict[str, list[str]] = {}
        for caller, agents in edges.items():
            for agent in agents:
                self._callers.setdefault(agent, []).append(caller)
        nobodys = self._nobodys({*self._callers, *edges, *nameless} - {_TOP})
        self._below = {name: list(agents) for name, agents in edges.items()}
        self._below[_TOP] = list(dict.fromkeys([*self._below.get(_TOP, ()), *nobodys]))
        #: each before all that it is above of
        self._order = list(reversed(list(_finished([_TOP], self._below))))
        self._above = _dominators(self._order, self._below)
        self._homed: dict[str, list[str]] = {}
        for name, above in self._above.items():
            self._homed.setdefault(above, []).append(name)
        self._handed = self._sum_up()

    def _nobodys(self, names: set[str]) -> list[str]:
        """Agents that must stand at the top though no call says so: who is called by nobody, or from a circle alone."""
        reached = {*_finished(list(self._edges.get(_TOP, ())), self._edges)}
        found = []
        # Of whatever leads to the others, something comes before all of them.
        for name in reversed(list(_finished(sorted(names), self._edges))):
            if name not in reached:
                found.append(name)
                for _ in _finished([name], self._edges, reached):
                    pass
        return found

    def _sum_up(self) -> dict[str, Sums]:
        """What each agent handed on, itself or through others: all that stands below its one line that has it."""
        handed: dict[str, Sums] = {}
        for name in reversed(self._order):
            parts = [*self._edges.get(name, {}).values(), *(handed[one] for one in self._homed.get(name, ()))]
            handed[name] = _plus(*parts, self._nameless.get(name, _zero()))
        return handed

    def _under(self, caller: str, depth: int) -> list[Line]:
        above = None if caller == _TOP else caller
        found = []
        for agent, direct in self._edges.get(caller, {}).items():
            home = self._above[agent] == caller
            found.append(self._line(agent, above, depth, direct, home=home))
        for agent in self._homed.get(caller, ()):
            if agent not in self._edges.get(caller, {}) and self._calls(agent):
                found.append(self._line(agent, above, depth, _zero(), home=True, gathered=True))
        if caller in self._nameless:
            found.append(Line(None, above, depth, self._nameless[caller], _zero(), (above,), False, False))
        return sorted(found, key=lambda line: (-line.total["cost_nanousd"], line.agent or "", line.gathered))

    def _line(
        self, agent: str, above: str | None, depth: int, direct: Sums, *, home: bool, gathered: bool = False
    ) -> Line:
        callers = tuple(name or None for name in sorted(self._callers.get(agent, ())))
        below = self._handed[agent] if home else _zero()
        return Line(agent, above, depth, direct, below, callers, not home and self._calls(agent), gathered)

    def _calls(self, agent: str) -> bool:
        return agent in self._edges or agent in self._nameless

    def lines(self) -> list[Line]:
        out: list[Line] = []
        left = self._under(_TOP, 0)[::-1]
        while left:
            line = left.pop()
            out.append(line)
            if line.agent is not None and not line.elsewhere and self._calls(line.agent):
                left += self._under(line.agent, line.depth + 1)[::-1]
        return out


def _finished(
    starts: Sequence[str], below: Mapping[str, Iterable[str]], known: set[str] | None = None
) -> Iterator[str]:
    """All that can be reached and is not `known`, which grows; each after whatever it leads to, but for circles."""
    seen = set() if known is None else known
    for start in starts:
        if start in seen:
            continue
        seen.add(start)
        path = [(start, iter(below.get(start, ())))]
        while path:
            name, others = path[-1]
            following = next((one for one in others if one not in seen), None)
            if following is None:
                path.pop()
                yield name
            else:
                seen.add(following)
                path.append((following, iter(below.get(following, ()))))


def _dominators(order: Sequence[str], below: Mapping[str, Iterable[str]]) -> dict[str, str]:
    """Of each but the first: the nearest that every way to it leads through (Cooper, Harvey and Kennedy, 2001)."""
    place = {name: at for at, name in enumerate(order)}
    sources: list[list[int]] = [[] for _ in order]
    for name in order:
        for one in below.get(name, ()):
            sources[place[one]].append(place[name])
    above: list[int | None] = [None] * len(order)
    above[0] = 0
    changed = True
    while changed:
        changed = False
        for at in range(1, len(order)):
            found: int | None = None
            for source in sources[at]:
                if above[source] is not None:
                    found = source if found is None else _common(above, found, source)
            if found != above[at]:
                above[at], changed = found, True
    return {order[at]: order[one] for at, one in enumerate(above) if at and one is not None}


def _common(above: Sequence[int | None], one: int, other: int) -> int:
    while one != other:
        if one < other:
            one, other = other, one
        higher = above[one]
        assert higher is not None
        one = higher
    return one


def _zero() -> Sums:
    return dict.fromkeys(SUMMED, 0)


def _sums(row: Mapping[str, Any]) -> Sums:
    return {name: row[name] or 0 for name in SUMMED}


def _plus(*parts: Sums) -> Sums:
    return {name: sum(part[name] for part in parts) for name in SUMMED}
