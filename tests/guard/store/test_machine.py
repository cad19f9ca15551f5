"""Any sequence of steps, by any of several users of one store: after each, the store holds what the model holds."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from aicostguard.guard.store import REST, Counter, Held, Refusal
from tests.guard.store.model import Model
from tests.guard.store.places import PLACES

#: what calls stand in: two of one budget's scopes, a tight one, one that is only told, and a rolling one
COUNTERS = (
    Counter("a/1", 100),
    Counter("a/2", 50),
    Counter("tight", 3),
    Counter("soft", 40, hard=False),
    Counter("minute", 60, window=60),
)
START = 1_795_959_000_000

some = st.lists(st.integers(0, len(COUNTERS) - 1), min_size=1, max_size=4, unique=True)
amount = st.one_of(st.integers(0, 5), st.integers(0, 40), st.just(REST))
lease = st.integers(1, 120_000)
which = st.integers(0, 1000)
used = st.one_of(st.none(), st.integers(0, 60))


class Steps(RuleBasedStateMachine):
    place = "memory"

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="aicg-machine-"))
        self.now = START
        self.model = Model()
        self.names = 0
        self.shape = {}

    @initialize()
    def open(self) -> None:
        make = PLACES[self.place]
        first = make(self.folder)
        # Two users of what is shared: whatever one did, the other sees.
        self.users = [first, first if self.place == "memory" else make(self.folder)]

    def teardown(self) -> None:
        for user in getattr(self, "users", ()):
            user.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def pick(self, index: int) -> str:
        """A ticket that can still be answered."""
        names = sorted(self.model.tickets)
        return names[index % len(names)]

    @rule(who=st.integers(0, 1), chosen=some, data=st.data(), lease=lease)
    def reserve(self, who, chosen, data, lease) -> None:
        counters = [COUNTERS[index] for index in chosen]
        amounts = [data.draw(amount) for _ in counters]
        self.names += 1
        name = "t%03d" % self.names
        answer = self.users[who].reserve(name, counters, amounts, self.now, self.now + lease)
        expected = self.model.reserve(name, counters, amounts, self.now, self.now + lease)
        if isinstance(answer, Refusal):
            assert tuple(answer) == expected
        else:
            assert isinstance(answer, Held) and answer.amounts == expected
            self.shape[name] = counters

    @precondition(lambda self: self.model.tickets)
    @rule(who=st.integers(0, 1), index=which, most=st.sampled_from((0, 3, 20)), data=st.data(), lease=lease)
    def grow(self, who, index, most, data, lease) -> None:
        name = self.pick(index)
        counters = self.shape[name]
        more = [data.draw(st.integers(0, most)) for _ in counters]  # with nothing more it renews
        expected = self.model.grow(name, counters, more, self.now, self.now + lease)
        assert self.users[who].grow(name, counters, more, self.now, self.now + lease) == expected

    @precondition(lambda self: self.model.tickets)
    @rule(who=st.integers(0, 1), index=which, data=st.data(), estimated=st.booleans())
    def settle(self, who, index, data, estimated) -> None:
        name = self.pick(index)
        keys = [counter.key for counter in self.shape[name]]
        amounts = [data.draw(used) for _ in keys]
        expected = self.model.settle(name, amounts, estimated, self.now)
        assert self.users[who].settle(name, keys, amounts, estimated, self.now) == expected

    @precondition(lambda self: self.model.tickets)
    @rule(who=st.integers(0, 1), index=which)
    def release(self, who, index) -> None:
        name = self.pick(index)
        keys = [counter.key for counter in self.shape[name]]
        assert self.users[who].release(name, keys, self.now) is self.model.release(name) is True

    @precondition(lambda self: self.shape)
    @rule(who=st.integers(0, 1), index=which)
    def answer_again(self, who, index) -> None:
        """Of a ticket that was answered, or never was, nobody knows."""
        gone = [name for name in sorted(self.shape) if name not in self.model.tickets] or ["nobody"]
        name = gone[index % len(gone)]
        counters = self.shape.get(name, COUNTERS[:1])
        keys, ones = [counter.key for counter in counters], [1] * len(counters)
        user = self.users[who]
        assert not user.grow(name, counters, ones, self.now, self.now + 1000)
        assert user.settle(name, keys, ones, False, self.now) is None
        assert user.release(name, keys, self.now) is False

    def expire(self, who) -> None:
        assert self.users[who].expire(self.now) == self.model.expire(self.now)

    @rule(by=st.one_of(st.integers(0, 9_000), st.integers(0, 90_000), st.just(86_400_000)), who=st.integers(0, 1))
    def wait(self, by, who) -> None:
        self.now += by
        self.expire(who)

    @precondition(lambda self: self.model.tickets)
    @rule(who=st.integers(0, 1), chosen=st.lists(st.integers(0, 2), min_size=1, unique=True), data=st.data())
    def rebuild(self, who, chosen, data) -> None:
        counters = [COUNTERS[index] for index in chosen]
        spent = {counter.key: data.draw(st.integers(0, 60)) for counter in counters}
        for _ in range(data.draw(st.integers(1, 2))):
            self.users[who].rebuild(spent, counters, self.now)
        self.model.rebuild(spent, counters)

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "users"):
            return
        expected = self.model.balances(self.now)
        for user in self.users:
            # A counter that nothing stands in may be there or not.
            found = {balance.key: balance for balance in user.read("", self.now)}
            for balance in expected:
                assert found.pop(balance.key, balance._replace(spent=0, reserved=0)) == balance
            assert not [balance for balance in found.values() if any(balance[1:])]


@pytest.mark.ids("D1", "D4", "D11", "Z2", "X2")
@pytest.mark.parametrize("place", sorted(PLACES))
def test_a_store_does_what_the_model_does(place) -> None:
    machine = type("Steps_" + place, (Steps,), {"place": place})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=100 if place == "memory" else 25,
            stateful_step_count=40,
            deadline=None,
            phases=(Phase.explicit, Phase.reuse, Phase.generate),  # shrinking takes minutes, and a sequence reads well
            suppress_health_check=list(HealthCheck),
        ),
    )
