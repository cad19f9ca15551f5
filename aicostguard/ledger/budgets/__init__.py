"""Budgets that the ledger keeps: set by people, filled by receipts, held by calls under way.

Owns rules with their revisions (`book`), counters that each receipt enters exactly once (`counted`), room that is
promised to calls and lent to processes (`tickets`, `leases`), alerts, and what is told of all of it (`status`).
Everything is changed inside the ledger's own write transaction, so that a decision and what it rests on cannot
disagree, whatever is killed. If it is wrong, money is spent that a budget should have held back, or a program is
stopped that had room.
"""
