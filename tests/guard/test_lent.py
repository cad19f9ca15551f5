"""Room borrowed from the ledger: never more in all than there is, whatever is lost on the way."""

from __future__ import annotations

import os
import threading
from typing import Any, Dict, List, Tuple

import pytest

from aicostguard.guard.engine import Guard
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.plan import Rule
from aicostguard.guard.policy import Budget, Policy
from aicostguard.guard.store import Counter, Held, Refusal, StoreFailed, lent
from aicostguard.guard.store.lent import PAUSE, LentStore
from aicostguard.guard.store.memory import MemoryStore
from aicostguard.guard.values import Bound, Facts, Spent

NOW = 1_800_000_000_000


class Ledger:
    """What the ledger promises of leases, in a few lines: one budget, no receipts."""

    def __init__(self, limit: int, share: int = 16) -> None:
        self.limit = limit
        self.share = share
        self.granted: Dict[Tuple[str, str, int], int] = {}
        self.asked: List[Any] = []
        self.up = True
        #: answers that are lost after the work is done
        self.losing = False
        self.forgotten = False

    def ask(self, holder: str, leases: List[Dict[str, Any]], seconds: float) -> Dict[str, Any]:
        if not self.up:
            raise OSError("nobody there")
        self.asked.append(leases)
        rows = [self._one(holder, item) for item in leases]
        if self.losing:
            raise OSError("the answer is lost")
        return {"lease_s": 300, "leases": rows}

    def _one(self, holder: str, item: Dict[str, Any]) -> Dict[str, Any]:
        key = (holder, str(item["scope"]), item["turn"])
        for other in [other for other in self.granted if other[:2] == key[:2] and other != key]:
            del self.granted[other]
        lost = key not in self.granted and bool(item["have"])
        had = self.granted.get(key, 0)
        reserved = sum(self.granted.values())
        row = {"spent": 0, "reserved": reserved, "granted": had, "refused": False, "lost": lost}
        if lost:
            return row
        if "exactly" in item:
            row["granted"] = self.granted[key] = min(had, item["exactly"])
            return row
        need = max(0, item["at_least"] - had)
        room = self.limit - reserved
        row["refused"] = need > room
        if need and need <= room:
            row["granted"] = self.granted[key] = had + need + (room - need) // self.share
        return row


class At:
    """A store with a clock of the test's."""

    def __init__(self, ledger: Ledger, holder: str = "one", beside: Any = None) -> None:
        self.now = 0.0
        self.store = LentStore(ledger.ask, lambda: holder, beside, lambda: self.now)
        self.store.serve({"default": "default"}, False)
        self.numbers = iter(range(10**6))

    def take(self, amount: int, limit: int = 1000, wait: bool = True, **more: Any) -> Any:
        counter = Counter("default/2026-11-29/", limit, **more)
        return self.store.reserve("t%d" % next(self.numbers), [counter], [amount], NOW, NOW + 10**6, wait)


def test_most_calls_ask_nobody():
    ledger = Ledger(1_000_000)
    at = At(ledger)
    for _ in range(100):
        assert at.take(10, 1_000_000).amounts == (10,)
    assert len(ledger.asked) == 1, "the first brought enough for the others"


@pytest.mark.ids("Z2", "D3")
def test_all_together_get_what_there_is_and_no_more():
    ledger = Ledger(1000)
    stores = [At(ledger, "holder %d" % number) for number in range(5)]
    taken = 0
    while True:
        round_ = 0
        for at in stores:
            answer = at.take(7)
            round_ += isinstance(answer, Held)
        taken += 7 * round_
        assert taken <= sum(ledger.granted.values()) <= 1000
        if not round_:
            break
        if taken > 900:  # what lies idle with one of them goes to the others
            for at in stores:
                at.store.renew(NOW)
    assert taken > 900
    answer = stores[0].take(1000)
    assert isinstance(answer, Refusal)
    assert answer.reserved == sum(ledger.granted.values())


def test_a_lost_answer_takes_nothing_away_for_good():
    ledger = Ledger(100, share=1000)
    at = At(ledger)
    ledger.losing = True
    assert isinstance(at.take(60, 100), Held), "the ledger did not answer: within what was left"
    assert ledger.granted == {("one", "[]", 0): 60}
    ledger.losing = False
    at.now += PAUSE
    assert isinstance(at.take(40, 100), Held)
    assert isinstance(at.take(1, 100), Refusal)
    assert sum(ledger.granted.values()) == 100


def test_idle_room_goes_back_and_what_is_under_way_does_not():
    ledger = Ledger(1000)
    at = At(ledger)
    at.take(100)
    assert sum(ledger.granted.values()) > 100
    at.store.renew(NOW)
    assert sum(ledger.granted.values()) > 100, "something is under way: the next call comes soon"
    at.store.settle("t0", ["default/2026-11-29/"], [70], False, NOW)
    at.store.renew(NOW)
    at.store.renew(NOW)
    assert sum(ledger.granted.values()) == 70
    at.take(50)
    at.store.give_back(NOW, 1.0)
    assert sum(ledger.granted.values()) == 120


def test_nobody_counts_on_what_is_being_given_back():
    from aicostguard.guard.store import Busy

    ledger = Ledger(1000)
    at = At(ledger)
    at.take(100)
    at.store.settle("t0", ["default/2026-11-29/"], [70], False, NOW)
    at.store.renew(NOW)
    plain, met = ledger.ask, []

    def ask(*args: Any) -> Any:
        answer = plain(*args)
        with pytest.raises(Busy):  # a call at the moment at which the ledger has it back, and its answer is on its way
            at.take(5, wait=False)
        met.append(answer)
        return answer

    at.store._ask = ask
    assert at.store.renew(NOW)
    assert len(met) == 1
    assert sum(ledger.granted.values()) == 70


def test_a_lease_that_the_ledger_forgot_is_begun_anew():
    ledger = Ledger(1000)
    at = At(ledger)
    at.take(100)
    at.store.settle("t0", ["default/2026-11-29/"], [100], False, NOW)
    at.take(30)
    ledger.granted.clear()  # it was silent for too long; its receipts have come, and are in `spent` there
    at.now += 301
    assert isinstance(at.take(10), Held)
    ((key, granted),) = ledger.granted.items()
    assert key == ("one", "[]", 1)
    assert 40 <= granted < 110, "what is under way is borrowed again; what is spent is the ledger's to know"


@pytest.mark.parametrize("closed", [False, True])
def test_a_ledger_that_is_away(closed):
    ledger = Ledger(1000, share=10)
    at = At(ledger)
    at.store.serve({"default": "default"}, closed)
    at.take(100)
    lent = sum(ledger.granted.values())
    ledger.up = False
    if closed:
        assert isinstance(at.take(lent - 100), Held), "what was lent stays ours"
        with pytest.raises(StoreFailed):
            at.take(1)
        return
    taken = 100
    while isinstance(at.take(50), Held):
        taken += 50
        assert taken <= 1000
    assert taken > 900, "all that was left when the ledger last answered"
    assert at.store.alone
    ledger.up = True
    at.now += PAUSE
    ledger.limit = 3000
    assert isinstance(at.take(50), Held)
    assert not at.store.alone
    assert sum(ledger.granted.values()) >= taken + 50, "what was spent meanwhile is borrowed afterwards"


def test_what_is_not_known_yet_is_enforced_by_its_limit():
    ledger = Ledger(1000)
    ledger.up = False
    at = At(ledger)
    assert isinstance(at.take(1000), Held)
    assert isinstance(at.take(1), Refusal)


def test_a_call_in_an_event_loop_is_told_to_wait_elsewhere():
    from aicostguard.guard.store import Busy

    ledger = Ledger(1000)
    at = At(ledger)
    with pytest.raises(Busy):
        at.take(5, wait=False)
    assert ledger.asked == []
    at.take(5)
    assert isinstance(at.take(5, wait=False), Held)


def test_rules_of_the_program_stand_beside_and_a_ticket_in_both_or_none():
    ledger, beside = Ledger(100, share=1000), MemoryStore()
    at = At(ledger, beside=beside)
    own, lent = Counter("own//", 50), Counter("default//", 1000)

    def take(name: str, amount: int) -> Any:
        return at.store.reserve(name, [own, lent], [amount, amount], NOW, NOW + 10**6)

    assert take("a", 30).amounts == (30, 30)
    assert take("b", 30).at == 0, "the program's own has no room"
    assert isinstance(at.store.reserve("x", [lent], [70], NOW, NOW + 10**6), Held)
    assert take("c", 20).at == 1, "the ledger's has no room"
    assert [found.reserved for found in at.store.read("own", NOW)] == [30]
    assert at.store.settle("a", ["own//", "default//"], [5, 6], False, NOW) == (5, 6)
    assert at.store.settle("a", ["own//", "default//"], [5, 6], False, NOW) is None
    assert [(found.spent, found.reserved) for found in at.store.read("own", NOW)] == [(5, 0)]


def test_a_rule_that_only_warns_is_passed_by_what_the_ledger_says():
    ledger = Ledger(100)
    at = At(ledger)
    assert at.take(5, 100, hard=False).over == ()
    ledger.granted["other", "[]", 0] = 90
    at.store.renew(NOW)
    assert at.take(20, 100, hard=False).over == ((0, 0, 95),), "five of them our own"


@pytest.mark.ids("D1")
def test_threads_give_back_and_take_without_passing_the_limit():
    ledger = Ledger(5000, share=4)
    lock = threading.Lock()
    plain = ledger.ask

    def ask(*args: Any) -> Any:
        with lock:
            answer = plain(*args)
            assert sum(ledger.granted.values()) <= 5000
            return answer

    ledger.ask = ask  # type: ignore[method-assign]
    stores = [At(ledger, "holder %d" % number) for number in range(3)]
    taken = [0] * 6
    over = threading.Event()

    def spend(number: int) -> None:
        at = stores[number % 3]
        for _ in range(300):
            if isinstance(at.take(3, 5000), Held):
                taken[number] += 3

    def tidy() -> None:
        while not over.wait(0.001):
            for at in stores:
                at.store.renew(NOW)

    tidying = threading.Thread(target=tidy)
    tidying.start()
    threads = [threading.Thread(target=spend, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    over.set()
    tidying.join(60)
    assert sum(taken) <= 5000
    for at in stores:
        used = sum(found.reserved for found in at.store.read("default", NOW))
        assert used <= sum(granted for key, granted in ledger.granted.items() if key[0] == at.store._holder())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_borrowed_nothing():
    ledger, told = Ledger(1000), []
    at = At(ledger)
    at.store._in_child = lambda: told.append(os.getpid())
    at.take(100)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            at.store._holder = lambda: "child"
            held = at.take(50)
            granted = ledger.granted.get(("child", "[]", 0), 0)
            os.write(write_end, b"%d %d %d" % (isinstance(held, Held), granted >= 50, len(told)))
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    os.close(write_end)
    with os.fdopen(read_end) as end:
        assert end.read() == "1 1 1"
    assert told == []


def test_through_the_engine_a_refusal_has_the_ledgers_figures():
    ledger = Ledger(1000, share=10**6)
    ledger.granted["other", "['a']", 0] = 700
    at = At(ledger)
    budget = Budget("teams/1", 1000, per=("team",), period="day")
    at.store.serve({Rule(budget).name: "teams/1"}, False)
    guard = Guard(Policy(budgets=(budget,)), at.store, clock=lambda: NOW)
    facts = Facts({"team": "a"}, Bound(300, 1, 1), NOW)
    ticket = guard.ask(facts)
    assert ledger.asked[-1][0]["scope"] == ["a"] and ledger.asked[-1][0]["budget"] == "teams/1"
    with pytest.raises(BudgetExceeded) as error:
        guard.ask(facts)
    assert (error.value.budget, error.value.scope) == ("teams/1", {"team": "a"})
    assert (error.value.limit, error.value.spent, error.value.reserved) == (1000, 0, 1000)
    guard.settle(ticket, Spent(nanousd=10, tokens=2))
    assert isinstance(guard.ask(facts._replace(bound=Bound(290, 1, 1))).id, str)


def test_a_settlement_that_is_taken_again_settles_the_half_that_is_left():
    """The other store had settled when its answer was lost: its second word is that it knows of no such ticket."""
    ledger, beside = Ledger(1000, share=1000), MemoryStore()
    at = At(ledger, beside=beside)
    keys = ["own//", "default//"]
    at.store.reserve("a", [Counter("own//", 50), Counter("default//", 1000)], [30, 30], NOW, NOW + 10**6)
    beside.settle("a", ["own//"], [5], False, NOW)
    assert at.store.settle("a", keys, [5, 6], False, NOW) is None
    assert [(found.spent, found.reserved) for found in at.store.read("", NOW)] == [(6, 0), (5, 0)]


@pytest.mark.parametrize("end", [False, True])
def test_all_that_is_idle_goes_back_however_many_counters_there_are(end, monkeypatch):
    """The ledger takes so many questions at once and no more."""
    monkeypatch.setattr(lent, "AT_ONCE", 3)
    ledger = Ledger(10**6)
    at = At(ledger)
    keys = ["default/2026-11-29/team=%d" % number for number in range(10)]
    for number, key in enumerate(keys):
        name = "t%d" % number
        assert isinstance(at.store.reserve(name, [Counter(key, 1000)], [10], NOW, NOW + 10**6), Held)
        at.store.settle(name, [key], [7], False, NOW)
    assert all(granted > 7 for granted in ledger.granted.values())
    ledger.asked.clear()
    if end:
        at.store.give_back(NOW, 1.0)
    else:
        assert at.store.renew(NOW) and at.store.renew(NOW)
    assert set(ledger.granted.values()) == {7}
    assert max(map(len, ledger.asked)) == 3


@pytest.mark.ids("D10")
def test_a_look_at_what_one_counter_has_used_is_no_look_at_all_of_them(monkeypatch):
    ledger = Ledger(10**6)
    at = At(ledger)
    at.take(100)
    monkeypatch.setattr(at.store._inner, "read", lambda *_: pytest.fail("all counters were read"))
    at.take(10**5, 10**6)
    assert at.store.renew(NOW)
    assert len(ledger.asked) == 3


def test_no_lock_is_held_while_the_programs_log_handlers_are_called(monkeypatch):
    ledger = Ledger(1000)
    ledger.up = False
    at = At(ledger)
    told = []

    def warn(code: str, text: str) -> None:
        told.append((code, at.store._asking.acquire(blocking=False)))
        at.store._asking.release()

    monkeypatch.setattr(lent.health, "warn", warn)
    at.take(10)
    at.take(10)
    assert told == [("guard-alone", True)]
