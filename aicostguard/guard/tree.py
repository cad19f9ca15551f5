"""`CostAttributionTree`: which agent spent what, when agents ask agents.

Owns the sums of a tree of agents and the caps on its branches. An agent's total is what it spent itself and what all
below it spent; nothing passes its own cap, that of any agent above it, or that of the tree. What has no room is
refused and not counted, and leaves everybody else as they were. Safe under threads; trees may be as deep as they like.
"""

from __future__ import annotations

import math
from typing import Dict, Iterator, List, Mapping, NamedTuple, Optional, Tuple

from aicostguard.guard import forks, rules, words
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.tokens import TokenUsage
from aicostguard.guard.uncopied import Uncopied
from aicostguard.pricing.registry import ModelPricing

_NANO = 1e9
_RULE = 60
#: levels that are shown by their indentation
_INDENTED = 20


class Attribution(NamedTuple):
    """One agent's part. `total_usd` is direct + delegated; `calls` are its own; `tokens` are those of its total, by
    class (`input_tokens`, `output_tokens`, `cache_read_input_tokens`, …). `remaining_usd` is what it may still
    spend."""

    agent: str
    parent: Optional[str]
    depth: int
    direct_usd: float
    delegated_usd: float
    total_usd: float
    calls: int
    tokens: Mapping[str, int]
    remaining_usd: float


class _Node:
    __slots__ = ("agent", "parent", "depth", "limit", "direct", "delegated", "calls", "tokens", "children")

    def __init__(self, agent: str, parent: Optional[_Node], limit: Optional[int]) -> None:
        self.agent = agent
        self.parent = parent
        self.depth: int = parent.depth + 1 if parent is not None else -1
        self.limit = limit
        self.direct = self.delegated = self.calls = 0
        self.tokens: Dict[str, int] = {}
        self.children: List[_Node] = []

    @property
    def total(self) -> int:
        return self.direct + self.delegated

    def chain(self) -> Iterator[_Node]:
        """Itself and all above it, the tree last."""
        node: Optional[_Node] = self
        while node is not None:
            yield node
            node = node.parent

    def remaining(self) -> Optional[int]:
        """What has room under its own cap and every cap above; None where there is none."""
        rooms = [node.limit - node.total for node in self.chain() if node.limit is not None]
        return min(rooms) if rooms else None


class CostAttributionTree(Uncopied):
    """Agents and what they cost, in USD. `max_budget` caps the whole tree, None does not.

    `record` is the check as well: a call without room raises BudgetExceeded and is not counted. A model without a price
    raises ValueError.
    """

    def __init__(
        self,
        max_budget: Optional[float] = None,
        session_id: Optional[str] = None,
        *,
        pricing: Optional[ModelPricing] = None,
    ) -> None:
        self.session_id = session_id
        self.pricing = pricing or ModelPricing()
        self._root = _Node("", None, _limit("max_budget", max_budget))
        self._nodes: Dict[str, _Node] = {}
        self._lock = forks.lock_of(self)

    def register_agent(
        self, agent_id: str, parent_id: Optional[str] = None, max_budget: Optional[float] = None
    ) -> float:
        """Add an agent under its parent (or at the top), and give the cap in USD that is in force for it.

        A cap above what the parent has left is lowered to that. Raises ValueError for an agent that is there already,
        for one without a name and for a parent that is not there.
        """
        if type(agent_id) is not str or not agent_id:
            said = "an empty one" if agent_id == "" else type(agent_id).__name__
            raise ValueError("agent_id must be the name of an agent, not %s" % said)
        limit = _limit("max_budget", max_budget)
        with self._lock:
            if agent_id in self._nodes:
                raise ValueError("agent %r is registered already" % (agent_id,))
            if parent_id is not None and parent_id not in self._nodes:
                raise ValueError("parent agent %r is not registered" % (parent_id,))
            parent = self._root if parent_id is None else self._nodes[parent_id]
            room = parent.remaining()
            if limit is not None and room is not None:
                limit = min(limit, room)
            node = self._nodes[agent_id] = _Node(agent_id, parent, limit)
            parent.children.append(node)
            return _usd(limit if limit is not None else room)

    def record(self, agent_id: str, usage: TokenUsage) -> float:
        """Add a call of an agent; what it costs in USD."""
        TokenUsage.needed(usage)
        price = usage.price(self.pricing)
        cost = price.cost_nanousd
        if cost is None:
            raise self.pricing.unpriced(usage.model, price, usage.provider)
        counts = [(name, count) for name, count in usage.counts().items() if type(count) is int]
        with self._lock:
            node = self._node(agent_id)
            for above in node.chain():
                if above.limit is not None and above.total + cost > above.limit:
                    raise self._exceeded(node, above, cost)
            node.direct += cost
            node.calls += 1
            for above in node.chain():
                if above is not node:
                    above.delegated += cost
                for name, count in counts:
                    above.tokens[name] = above.tokens.get(name, 0) + count
        return cost / _NANO

    def _node(self, agent: str) -> _Node:
        node = self._nodes.get(agent)
        if node is None:
            raise ValueError("agent %r is not registered" % (agent,))
        return node

    def _exceeded(self, node: _Node, at: _Node, cost: int) -> BudgetExceeded:
        limit = at.limit or 0
        whose = "the budget" if at is self._root else "the budget of agent %s" % at.agent
        total, line = words.amounts("nanousd", at.total + cost, limit)
        return BudgetExceeded(
            "Spend %s of agent %s would exceed %s %s" % (total, node.agent, whose, line)
            if at is node
            else "Spend %s below %s, with a call of agent %s, would exceed %s" % (total, whose, node.agent, line),
            budget=at.agent or "max_budget",
            dimension="agent" if at is not self._root else "budget",
            scope={"agent": node.agent},
            limit=limit,
            spent=at.total,
            estimate=cost,
        )

    def __repr__(self) -> str:
        return "CostAttributionTree(session_id=%r, agents=%d, spent=%r)" % (
            self.session_id,
            len(self._nodes),
            self.spent,
        )

    @property
    def spent(self) -> float:
        """What all agents have cost, in USD."""
        return self._root.delegated / _NANO

    def remaining(self, agent_id: Optional[str] = None) -> float:
        """What an agent, or the tree, may still spend in USD; infinity where nothing limits it."""
        with self._lock:
            return _usd((self._root if agent_id is None else self._node(agent_id)).remaining())

    def attribution(self, agent_id: str) -> Attribution:
        """The part of one agent."""
        with self._lock:
            return _attribution(self._node(agent_id))

    def report(self) -> List[Attribution]:
        """The parts of all agents, each above those it asked."""
        with self._lock:
            return [_attribution(node) for node in self._walk()]

    def _walk(self) -> Iterator[_Node]:
        open_nodes = self._root.children[::-1]
        while open_nodes:
            node = open_nodes.pop()
            yield node
            open_nodes.extend(reversed(node.children))

    def format_report(self) -> str:
        """The report as text, in USD with four decimals."""
        with self._lock:
            rows = [(_indent(node) + node.agent, node) for node in self._walk()]
            width = max([21, *(len(name) for name, _ in rows)])
            lines = ["Multi-Agent Cost Attribution", "=" * 40, "Global: $%.4f spent" % self.spent]
            if self._root.limit is not None:
                used = 100 * self._root.delegated // self._root.limit if self._root.limit else 100
                lines.append("Budget: %s (%d%% used)" % (words.amounts("nanousd", self._root.limit)[0], used))
            lines += ["", "%-*s %10s %10s %10s %5s" % (width, "Agent", "Direct", "Delegated", "Total", "Calls")]
            lines.append("-" * max(_RULE, width + 39))
            for name, node in rows:
                direct, delegated, total = _sums(node)
                lines.append("%s $%9.4f $%9.4f $%9.4f %5d" % (name.ljust(width), direct, delegated, total, node.calls))
        return "\n".join(lines)


def _limit(name: str, value: Optional[float]) -> Optional[int]:
    if value is None:
        return None
    limit: int = rules.read(rules.USD, "CostAttributionTree." + name, value)
    return limit


def _usd(nano: Optional[int]) -> float:
    return math.inf if nano is None else nano / _NANO


def _indent(node: _Node) -> str:
    return "  " * min(node.depth, _INDENTED)


def _attribution(node: _Node) -> Attribution:
    parent = node.parent.agent if node.parent is not None and node.depth else None
    direct, delegated, total = _sums(node)
    return Attribution(
        node.agent,
        parent,
        node.depth,
        direct,
        delegated,
        total,
        node.calls,
        dict(node.tokens),
        _usd(node.remaining()),
    )


def _sums(node: _Node) -> Tuple[float, float, float]:
    return node.direct / _NANO, node.delegated / _NANO, node.total / _NANO
