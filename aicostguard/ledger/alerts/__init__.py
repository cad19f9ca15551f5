"""Alerts: rules that look at what the ledger holds, the state of each, and the people who are told.

Owns rules (`rule`, `book`), what they see (`readings`, `minutes`, `baseline`), when something fires and when it is over
(`incident`), when which rule is looked at (`watch`), and how it is told (`outbox`, `channel`, `webhook`, `apprised`).
State and what is to be sent are changed in one transaction of the ledger's, so that a kill loses nothing and tells
nothing twice; what no receiver can be told apart is said in docs/alerts.md. If it is wrong, a runaway burns money in
silence, or people learn to look away.
"""
