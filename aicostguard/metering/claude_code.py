"""What Claude Code says of its own usage: the results of its runs, as the Claude Agent SDK hands them on.

Owns the arithmetic of a `result` message. Its `modelUsage` and `total_cost_usd` grow over the life of the process, turn
by turn, so each result bills what has been added since the last one, model by model. An assistant message's usage is
that of its start and counts for nothing. A process that resumes a session goes on with that session's sums, which may
have been billed long ago and elsewhere. Pure. If this is wrong, long sessions are billed again with every turn.
Definition: https://platform.claude.com/docs/en/agent-sdk/cost-tracking
"""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, MutableMapping, Optional

from aicostguard.metering.values import count, mapping, text
from aicostguard.usage import Reading, Usage

#: counts of one model that add up
_COUNTS = (
    "inputTokens",
    "outputTokens",
    "cacheReadInputTokens",
    "cacheCreationInputTokens",
    "cacheCreationEphemeral1hInputTokens",
    "thinkingTokens",
    "webSearchRequests",
)
#: who serves the model → provider
_PROVIDERS = {"firstParty": "anthropic", "bedrock": "bedrock", "vertex": "vertex", "foundry": "azure"}


#: sums that were billed, by model
Sums = Dict[str, Dict[str, int]]


class Results:
    """The results of one process.

    `sessions` are the sums of the sessions that are known, by id; `resumed` says that the process goes on with a
    session, and `session` with which, where that is known.
    """

    def __init__(
        self, sessions: MutableMapping[str, Sums], resumed: bool = False, session: Optional[str] = None
    ) -> None:
        self._sessions = sessions
        self._resumed = resumed
        self._session = session
        self._sofar: Optional[Sums] = None
        #: the model that answered last; None before anything was answered in this turn
        self._answered: Optional[str] = None

    def seen(self, message: Mapping[str, Any]) -> List[Reading]:
        """What a message of the process bills: nothing unless it is a result."""
        kind = message.get("type")
        if kind == "assistant":
            self._answered = text(mapping(message.get("message")).get("model")) or "unknown"
        if kind != "result":
            return []
        answered, self._answered = self._answered, None
        models = message.get("modelUsage")
        turn = _usage_of_turn(mapping(message.get("usage")))
        of_turn = [Reading(answered, turn, "anthropic")] if turn is not None else []
        if type(models) is not dict:  # before Claude Code 2
            return of_turn
        session = text(message.get("session_id")) or ""
        strange = False
        if self._sofar is None:
            known = self._sessions.get(self._session or session) if self._resumed else None
            strange = self._resumed and known is None
            self._sofar = dict(known or {})
        found = [reading for name, row in models.items() for reading in self._added(self._sofar, name, mapping(row))]
        self._sessions[session] = self._sofar
        if strange:
            # Somebody else has billed what went before: this turn is known, and other models' part in it is not.
            return [reading._replace(mismatch=len(found) > 1) for reading in of_turn]
        return found

    def left(self) -> List[Reading]:
        """The process is over: a turn that was answering is billed, and nobody knows how much."""
        answered, self._answered = self._answered, None
        return [] if answered is None else [Reading(answered, None, "anthropic", partial=True)]

    def _added(self, sofar: Sums, name: str, row: Mapping[str, Any]) -> List[Reading]:
        now = {key: count(row.get(key)) or 0 for key in _COUNTS}
        now["cost"] = _nano(row.get("costUSD"))
        before = sofar.get(name, {})
        if any(now[key] < before.get(key, 0) for key in _COUNTS):
            before = {}  # it has begun to count anew
        sofar[name] = now
        added = {key: value - before.get(key, 0) for key, value in now.items()}
        if not any(added[key] for key in _COUNTS):
            return []
        read, written = added["cacheReadInputTokens"], added["cacheCreationInputTokens"]
        usage = Usage(
            input_tokens=added["inputTokens"] + read + written,
            output_tokens=added["outputTokens"],
            cache_read_input_tokens=read,
            cache_creation_input_tokens=written,
            cache_creation_1h_input_tokens=added["cacheCreationEphemeral1hInputTokens"],
            reasoning_output_tokens=added["thinkingTokens"],
            web_searches=added["webSearchRequests"],
            reported_cost_nanousd=max(0, added["cost"]) if row.get("costUSD") is not None else None,
        )
        # `[1m]` behind a name asks for the long context.
        model = name.partition("[")[0] or None
        return [Reading(model, usage, _PROVIDERS.get(text(row.get("provider")) or "firstParty", "anthropic"))]


def _usage_of_turn(raw: Mapping[str, Any]) -> Optional[Usage]:
    given, written = count(raw.get("input_tokens")), count(raw.get("cache_creation_input_tokens"))
    read, output = count(raw.get("cache_read_input_tokens")), count(raw.get("output_tokens"))
    if given is None or output is None:
        return None
    return Usage(
        input_tokens=given + (read or 0) + (written or 0),
        output_tokens=output,
        cache_read_input_tokens=read,
        cache_creation_input_tokens=written,
    )


def _nano(dollars: object) -> int:
    """Nano-dollars of a cost that came as a float: Claude Code's own sum, not a price list's text."""
    if isinstance(dollars, (int, float)) and 0 <= dollars < 10**6:
        return round(dollars * 10**9)
    return 0
