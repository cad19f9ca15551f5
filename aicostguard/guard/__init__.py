"""Budgets that hold around every call: reserve before, settle after.

Owns the rules (`policy`), what is asked and answered (`values`), the engine that applies one to the other over a
store, and what is built by hand on top (trackers, trees, enforcers). It never meters and never prices by itself: what a
call may cost at most comes in, what it did cost comes in. If it fails open, money is spent that should not be; if it
fails closed, a program stops that should not.
"""
