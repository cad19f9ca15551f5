"""The state of a view as it stands in its address: the parameters of `GET /v1/costs`, and what a page adds.

Owns reading and writing them. Nothing about what is shown is kept anywhere else, so an address is a view that can be
sent to somebody. A parameter that nobody knows is refused: a filter that is misspelt must not look like one that
matches everything.
"""

from __future__ import annotations

from typing import Iterable, Mapping, NamedTuple, Sequence
from urllib.parse import urlencode

from aicostguard.ledger.errors import Refused
from aicostguard.ledger.model import TIMES, known
from aicostguard.ledger.query import NOT, PARAMETERS

Values = tuple[str, ...]


class Filter(NamedTuple):
    """One filter as it is shown: a dimension, the value, and whether it is left out. "" is what says nothing."""

    name: str
    value: str
    excluded: bool


class State(NamedTuple):
    """`given` are the parameters of a query, dimensions with `!` behind them included; `own` those of the page."""

    given: Mapping[str, Values] = {}
    own: Mapping[str, Values] = {}

    @classmethod
    def of(cls, pairs: Iterable[tuple[str, str]], own: Sequence[str] = ()) -> State:
        """From an address. Raises `Refused` (422) for a parameter that is none here."""
        found: dict[str, Values] = {}
        mine: dict[str, Values] = {}
        for name, value in pairs:
            of_query = name in PARAMETERS or known(name.removesuffix(NOT))
            if not of_query and name not in own:
                raise Refused(
                    422, "is not a parameter of this page; filters are named like model=… or model!=…", _shown(name)
                )
            place = found if of_query else mine
            if name == "group_by":  # several mean one list
                found[name] = (",".join((*found.get(name, ()), value)),)
            elif value or known(name.removesuffix(NOT)):
                place[name] = tuple(dict.fromkeys((*place.get(name, ()), value)))
        return cls(found, mine)

    def one(self, name: str, default: str = "") -> str:
        """The value of a parameter that is given once. Raises `Refused` (422) for several."""
        values = self.given.get(name) or self.own.get(name) or ()
        if len(values) > 1:
            raise Refused(422, "may be given once", name)
        return values[0] if values else default

    @property
    def group_by(self) -> Values:
        """What is grouped by, in order."""
        return tuple(name.strip() for name in self.one("group_by").split(",") if name.strip())

    @property
    def dimensions(self) -> Values:
        """What is grouped by beside time."""
        return tuple(name for name in self.group_by if name not in TIMES)

    @property
    def filters(self) -> list[Filter]:
        """All filters, in the order in which they were given."""
        return [
            Filter(name.removesuffix(NOT), value, name.endswith(NOT))
            for name, values in self.given.items()
            if known(name.removesuffix(NOT))
            for value in values
        ]

    @property
    def only_wanted(self) -> State:
        """The filters that name what is wanted, and nothing else."""
        return State({name: values for name, values in self.given.items() if known(name)})

    def having(self, **changes: str | Sequence[str] | None) -> State:
        """The state with other parameters: None takes one away. `not_model` stands for `model!`."""
        given, own = dict(self.given), dict(self.own)
        for word, value in changes.items():
            name = word.removeprefix("not_") + NOT if word.startswith("not_") else word
            place = given if name in PARAMETERS or known(name.removesuffix(NOT)) else own
            if value is None:
                place.pop(name, None)
            else:
                place[name] = (value,) if isinstance(value, str) else tuple(value)
        return State(given, own)

    def filtered(self, name: str, value: str | None, *, excluded: bool = False) -> State:
        """The state with only this value of a dimension, or without it. None stands for what says nothing."""
        if excluded:
            return self.having(**{f"not_{name}": (*self.given.get(name + NOT, ()), value or "")})
        return self.having(**{name: (value or "",)})

    def unfiltered(self, gone: Filter) -> State:
        """The state without a filter."""
        name = gone.name + (NOT if gone.excluded else "")
        left = tuple(value for value in self.given.get(name, ()) if value != gone.value)
        word = f"not_{gone.name}" if gone.excluded else gone.name
        return self.having(**{word: left or None})

    def cleared(self) -> State:
        """The state without any filter."""
        kept = {name: values for name, values in self.given.items() if not known(name.removesuffix(NOT))}
        return State(kept, self.own)

    def pairs(self) -> list[tuple[str, str]]:
        """As they stand in an address."""
        both = {**self.given, **self.own}
        return [(name, value) for name, values in both.items() for value in values]

    def query(self) -> str:
        """As a query string; empty without parameters."""
        return urlencode(self.pairs())

    def asked(self, **changes: str | Sequence[str] | None) -> dict[str, list[str]]:
        """As `query.parse` takes them: the page's own are left out."""
        return {name: list(values) for name, values in self.having(**changes).given.items()}


def _shown(name: str) -> str:
    return ascii(name[:64])[1:-1]
