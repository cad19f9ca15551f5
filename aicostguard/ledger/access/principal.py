"""Who asks, and what they may: the one value that every route decides by.

Owns the words for rights: scopes (what a route asks for), roles (how people name sets of them) and reach (one project,
all of an organisation, all of the ledger). Knows nothing of how somebody proved who they are.
"""

from __future__ import annotations

from typing import Mapping, NamedTuple

#: what a right holds for, the narrowest first; each includes those before it
PROJECT, ORGANISATION, LEDGER = REACHES = ("project", "organisation", "ledger")

#: role → the scopes it stands for
ROLES: Mapping[str, tuple[str, ...]] = {
    "ingest": ("ingest",),
    "read": ("read",),
    "admin": ("ingest", "read", "manage"),
}


def roles(scopes: tuple[str, ...]) -> tuple[str, ...]:
    """The roles that scopes amount to, and those scopes that are left over, which have no role of their own."""
    if set(ROLES["admin"]) <= set(scopes):
        return ("admin",)
    return tuple(scopes)


class Principal(NamedTuple):
    """A key or a person, in the project that the request is about.

    `scopes` hold in that project; `held` says where else: reach → the scopes held throughout it.
    """

    #: "key" or "person"
    kind: str
    id: str
    name: str
    #: as it may be shown: the first nine characters of a key and bullets, or a person's address
    shown: str
    scopes: tuple[str, ...]
    project_id: int
    project: str
    organisation_id: int
    organisation: str
    held: Mapping[str, frozenset[str]]
    #: the address it came from
    address: str = ""
    #: bytes that one body may have; None for the ledger's own bound
    max_bytes: int | None = None
    #: projects that it sees one by one; a wider reach shows all of them
    visible: frozenset[int] = frozenset()

    @property
    def who(self) -> str:
        """How it is called in histories."""
        if self.kind == "person":
            return self.shown
        return f"key {self.shown[:9]}" + (f" ({self.name})" if self.name else "")

    def may(self, scope: str, reach: str = PROJECT) -> bool:
        """Whether it has a scope throughout a reach."""
        if reach == PROJECT and scope in self.scopes:
            return True
        return any(scope in self.held.get(wider, ()) for wider in REACHES[REACHES.index(reach) :])
