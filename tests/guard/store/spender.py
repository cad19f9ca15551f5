"""One of several processes that spend from one budget: `spender.py STORE NAME SEED CALLS CAP [dies]`.

Prints a line for each call (`settled N`, `released`, `lost N`) before it answers it, so that what the test reads is
what was really used, also of a process that is killed. With `dies` it prints `held N` after each reservation, and never
answers the last one.
"""

from __future__ import annotations

import os
import random
import sys
import time

from aicostguard.guard.engine import Guard
from aicostguard.guard.errors import BudgetExceeded
from aicostguard.guard.policy import Budget, Policy
from aicostguard.guard.store import open_store
from aicostguard.guard.values import Bound, Facts, Spent


def say(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def policy(cap: int) -> Policy:
    return Policy(
        budgets=(
            Budget("all", cap),
            Budget("scopes", cap // 2, per=("team",)),
            Budget("minutes", 10**9, unit="tokens", period="minute"),
        ),
        on_store_failure="closed",
    )


def main() -> None:
    where, name, seed, calls, cap = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
    dies = sys.argv[6:] == ["dies"]
    store = open_store(where, name, "")
    store._patience = store._timeout = 60.0  # a busy machine is no fault of the store
    guard, dice = Guard(policy(cap), store, lease_ms=1 if dies else 600_000), random.Random(seed)
    say("ready")
    sys.stdin.readline()
    for number in range(calls):
        most = dice.randint(1, 50)
        try:
            ticket = guard.ask(Facts({"team": str(number % 3)}, Bound(most, most, 0), time.time_ns() // 1_000_000))
        except BudgetExceeded as refused:
            stood = refused.spent + refused.reserved
            if refused.dimension != "total" or not refused.limit - most < stood <= refused.limit:
                say("wrong", refused)  # what it says has to explain itself
            continue
        if dies:
            say("held", most)
            if number == calls - 1:
                time.sleep(600)
        for _ in range(0 if dies else dice.randint(0, 4)):  # a stream, which grows beyond what it was let through for
            more = dice.randint(1, 50)
            if guard.grow(ticket, more, more):
                most += more
        if dice.random() < 0.3:
            time.sleep(dice.random() / 500)
        way, used = dice.random(), dice.randint(0, most)
        if way < 0.15:
            say("released")
            guard.release(ticket)
        elif way < 0.25:
            say("lost", most)
            guard.lost(ticket)
        else:
            say("settled", used)
            guard.settle(ticket, Spent(used, used))
    guard.close()
    say("done")


if __name__ == "__main__":
    main()
