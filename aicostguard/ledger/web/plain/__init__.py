"""From what the ledger answers to what people read: sentences, states, order of urgency. Pure.

Owns words. A module takes an answer of the API and gives values that a template only has to place; none asks the ledger
anything, and none adds up money. If a sentence here is wrong, somebody does the wrong thing about right figures.
"""
