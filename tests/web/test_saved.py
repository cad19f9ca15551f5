"""Views that people keep: each person's own, bounded, and without a user who was forgotten."""

from __future__ import annotations

import pytest

from aicostguard import ledger
from aicostguard.ledger.access.audit import Actor
from aicostguard.ledger.errors import Refused
from aicostguard.ledger.keeping import forgetting
from aicostguard.ledger.sqlite import SqliteStore, saved

pytest.importorskip("jinja2")
MINE, YOURS = "person:1", "key:2"
GIVEN = {"group_by": ("model",), "user": ("alice@example.com", "bob"), "user!": ("carol",), "chart": ("bars",)}


def keep(store: SqliteStore, name: str = "Mine", owner: str = MINE, **given: tuple[str, ...]) -> None:
    project = store.default_project()
    store.change(lambda connection: saved.put(connection, project, owner, name, "/explore", given or GIVEN, 1))


def kept(store: SqliteStore, owner: str = MINE, project: int | None = None) -> list[saved.Saved]:
    number = store.default_project() if project is None else project
    return store.look(lambda connection: saved.of(connection, number, owner))


def test_a_view_comes_back_as_it_was_kept_to_whoever_kept_it(store: SqliteStore) -> None:
    keep(store, "  My\n view ")
    assert kept(store) == [saved.Saved("My view", "/explore", dict(GIVEN))]
    assert kept(store, YOURS) == [] and kept(store, MINE, store.default_project() + 1) == []
    keep(store, "My view", group_by=("team",))
    assert [one.parameters for one in kept(store)] == [{"group_by": ("team",)}]


def test_a_view_is_removed_by_its_owner_alone(store: SqliteStore) -> None:
    keep(store)
    project = store.default_project()
    with pytest.raises(Refused, match="there is no view 'Mine' of yours"):
        store.change(lambda connection: saved.remove(connection, project, YOURS, "Mine"))
    store.change(lambda connection: saved.remove(connection, project, MINE, "Mine"))
    assert kept(store) == []


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\x07b"])
def test_a_name_is_short_and_can_be_read(store: SqliteStore, name: str) -> None:
    with pytest.raises(Refused, match="1 to 80 printable characters") as refused:
        keep(store, name)
    assert refused.value.field == "name" and kept(store) == []


def test_there_are_only_so_many(store: SqliteStore) -> None:
    for number in range(saved.MOST):
        keep(store, f"view {number}")
    with pytest.raises(Refused, match="remove one first"):
        keep(store, "one more")
    keep(store, "view 3")
    keep(store, "another's", YOURS)


def test_a_user_who_is_forgotten_is_forgotten_here_too(store: SqliteStore) -> None:
    keep(store)
    project = store.default_project()
    for user in ("alice@example.com", "carol"):
        report = forgetting.forget(store, project, user, Actor("test"), ledger.now_ms())
        assert report.left == {} and report.others == 1
    ((_, _, parameters),) = kept(store)
    assert parameters["user"][1] == "bob" and parameters["user"][0].startswith("forgotten-")
    assert parameters["user!"][0].startswith("forgotten-")
