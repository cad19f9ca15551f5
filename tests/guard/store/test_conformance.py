"""What every store promises, one sentence a test."""

from __future__ import annotations

import pytest

from aicostguard.guard.store import LATE_MS, REST, Balance, Counter, Held, Refusal

NOW = 1_795_959_000_000
SOON = NOW + 60_000
B = Counter("b/", 100)
MINUTE = Counter("minute/", 100, window=60, until=NOW + 7_200_000)


def balance(store, key="b/", now=NOW) -> tuple:
    return next((tuple(row[1:]) for row in store.read(key, now)), (0, 0, 0, 0))


@pytest.mark.ids("X2", "ACC:A10")
def test_the_limit_is_reached_and_not_passed(store) -> None:
    assert store.reserve("a", [B], [100], NOW, SOON) == Held((100,))
    assert store.reserve("b", [B], [1], NOW, SOON) == Refusal(0, 0, 100)
    assert store.reserve("c", [B], [0], NOW, SOON) == Held((0,))


@pytest.mark.ids("D1")
def test_all_counters_or_none(store) -> None:
    tight = Counter("tight/", 3)
    assert store.reserve("a", [B, tight], [10, 4], NOW, SOON) == Refusal(1, 0, 0)
    assert balance(store) == (0, 0, 0, 0)
    assert store.reserve("a", [B, tight], [10, 3], NOW, SOON) == Held((10, 3))
    assert not store.grow("a", [B, tight], [1, 1], NOW, SOON)
    assert balance(store) == (0, 10, 0, 0)


def test_amounts_are_exact_beyond_what_floats_hold(store) -> None:
    big = Counter("big/", 10**18)
    assert store.reserve("a", [big], [10**15], NOW, SOON) == Held((10**15,))
    assert store.settle("a", ["big/"], [10**15], False, NOW) == (10**15,)
    store.rebuild({"big/": 10**18 - 1}, [big], NOW)
    assert store.reserve("b", [big], [2], NOW, SOON) == Refusal(0, 10**18 - 1, 0)
    assert store.reserve("c", [big], [REST], NOW, SOON) == Held((1,))
    assert store.settle("c", ["big/"], [1], False, NOW) == (10**18,)
    assert store.reserve("d", [big], [1], NOW, SOON) == Refusal(0, 10**18, 0)
    assert balance(store, "big/") == (10**18, 0, 0, 0)
    nearly = Counter("nearly/", 10**18)
    for power in range(60):  # each sum is compared with its neighbour
        limit = 2**power
        row = Counter("p%d/" % power, limit)
        store.rebuild({row.key: limit - 1}, [row], NOW)
        assert store.reserve("x%d" % power, [row], [1], NOW, SOON) == Held((1,))
        assert store.reserve("y%d" % power, [row], [1], NOW, SOON) == Refusal(0, limit - 1, 1)
    assert store.reserve("z", [nearly], [0], NOW, SOON) == Held((0,))


def test_what_is_only_told_is_told_and_counted(store) -> None:
    soft = Counter("soft/", 10, hard=False)
    assert store.reserve("a", [soft], [8], NOW, SOON) == Held((8,))
    assert store.reserve("b", [B, soft], [1, 8], NOW, SOON) == Held((1, 8), ((1, 0, 8),))
    assert balance(store, "soft/") == (0, 16, 0, 0)


def test_the_rest_is_all_that_is_left_and_nothing_is_refused(store) -> None:
    store.reserve("a", [B], [30], NOW, SOON)
    assert store.reserve("b", [B], [REST], NOW, SOON) == Held((70,))
    assert store.reserve("c", [B], [REST], NOW, SOON) == Refusal(0, 0, 100)


@pytest.mark.ids("D11")
def test_a_second_answer_changes_nothing(store) -> None:
    store.reserve("a", [B], [30], NOW, SOON)
    assert store.settle("a", ["b/"], [20], False, NOW) == (20,)
    assert store.settle("a", ["b/"], [20], False, NOW) is None
    assert store.release("a", ["b/"], NOW) is False
    store.reserve("r", [B], [30], NOW, SOON)
    assert store.release("r", ["b/"], NOW) is True
    assert store.release("r", ["b/"], NOW) is False
    assert store.settle("r", ["b/"], [5], False, NOW) is None
    assert balance(store) == (20, 0, 0, 0)


@pytest.mark.ids("D6")
def test_what_is_not_known_is_booked_as_held_and_counted(store) -> None:
    store.reserve("a", [B], [30], NOW, SOON)
    store.reserve("b", [B], [0], NOW, SOON)
    store.reserve("c", [B], [9], NOW, SOON)
    assert store.settle("a", ["b/"], [None], False, NOW) == (30,)
    assert store.settle("b", ["b/"], [None], False, NOW) == (30,)
    assert store.settle("c", ["b/"], [4], True, NOW) == (34,)
    assert balance(store) == (34, 0, 1, 2)


@pytest.mark.ids("D11")
def test_who_does_not_come_back_is_booked_whole_and_may_still_correct_it(store) -> None:
    for name in ("slow", "dead", "free"):
        store.reserve(name, [B, MINUTE], [30, 30], NOW, SOON)
    assert store.expire(SOON - 1) == 0 and store.expire(SOON) == 3 and store.expire(SOON) == 0
    assert balance(store) == (90, 0, 0, 3)
    assert store.grow("slow", [B, MINUTE], [1, 1], SOON, SOON + 1) is False
    assert store.settle("slow", ["b/", "minute/"], [4, 4], False, SOON)[0] == 64
    assert store.release("free", ["b/", "minute/"], SOON) is True
    assert balance(store) == (34, 0, 0, 1)
    assert store.expire(SOON + LATE_MS) == 0
    assert store.settle("dead", ["b/", "minute/"], [1, 1], False, SOON + LATE_MS) is None
    assert balance(store) == (34, 0, 0, 1)


def test_a_renewed_lease_runs_on(store) -> None:
    store.reserve("a", [B], [10], NOW, SOON)
    assert store.grow("a", [B], [0], NOW, SOON + 1000)
    assert store.expire(SOON) == 0 and store.expire(SOON + 1000) == 1


@pytest.mark.ids("ACC:B09")
def test_a_window_forgets_by_the_second_and_late_answers_do_not_bring_it_back(store) -> None:
    store.reserve("a", [MINUTE], [60], NOW, NOW + 600_000)
    store.reserve("b", [MINUTE], [40], NOW + 30_000, NOW + 600_000)
    assert store.reserve("c", [MINUTE], [1], NOW + 60_999, NOW + 600_000) == Refusal(0, 0, 100)
    assert store.reserve("c", [MINUTE], [60], NOW + 61_000, NOW + 600_000) == Held((60,))
    assert store.settle("a", ["minute/"], [55], False, NOW + 61_000) == (0,)
    assert store.settle("b", ["minute/"], [10], False, NOW + 61_000) == (10,)
    assert balance(store, "minute/", NOW + 61_000) == (10, 60, 0, 0)
    assert store.expire(NOW + 600_000) == 1
    assert store.settle("c", ["minute/"], [3], False, NOW + 600_000) == (0,)
    assert balance(store, "minute/", NOW + 600_000) == (0, 0, 0, 0)


@pytest.mark.ids("D7")
def test_one_of_all_is_the_first_and_for_as_long_as_said(store) -> None:
    assert store.once("k", SOON, NOW) and not store.once("k", SOON, NOW) and not store.once("k", SOON, SOON - 1)
    assert store.once("k", SOON + 60_000, SOON)
    assert store.once("for good", 0, NOW) and not store.once("for good", 0, NOW + 10**12)


def test_what_has_ended_is_forgotten_and_the_rest_stays(store) -> None:
    ends = Counter("day/1/", 100, until=SOON)
    store.reserve("a", [ends, B], [1, 1], NOW, NOW + 10**7)
    store.settle("a", ["day/1/", "b/"], [1, 1], False, NOW)
    store.expire(SOON + 120_000)
    assert [row.key for row in store.read("", SOON + 120_000)] == ["b/"]


def test_counters_are_read_by_what_their_keys_begin_with(store) -> None:
    for key in ("a/x/", "a/y/", "a_/x/", "b/", "a/é/", "a%/"):
        store.reserve("t" + key, [Counter(key, 10)], [1], NOW, SOON)
    assert [row.key for row in store.read("a/", NOW)] == ["a/x/", "a/y/", "a/é/"]
    assert store.read("a/x/", NOW) == [Balance("a/x/", 0, 1, 0, 0)]
    assert store.read("c", NOW) == []


@pytest.mark.ids("D4")
def test_a_rebuild_sets_and_does_not_add(store) -> None:
    store.reserve("open", [B], [5], NOW, NOW + 10**7)
    store.reserve("dead", [B], [7], NOW, SOON)
    store.expire(SOON)
    for _ in range(3):
        store.rebuild({"b/": 40, "new/": 2}, [B, Counter("new/", 10)], SOON)
        assert balance(store) == (40, 5, 0, 0) and balance(store, "new/") == (2, 0, 0, 0)
    assert store.settle("dead", ["b/"], [1], False, SOON) is None  # the other book has it
    assert store.settle("open", ["b/"], [3], False, SOON) == (43,)


def test_a_store_that_was_closed_opens_again(store) -> None:
    store.reserve("a", [B], [10], NOW, SOON)
    store.close()
    assert balance(store) == (0, 10, 0, 0)
