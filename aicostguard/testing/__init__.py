"""Spend as a test: what the AI calls of a test suite cost, and limits that fail it.

`plugin` is loaded by pytest (entry point `pytest11`) and does nothing until it is asked; `spend` is what was spent.
"""
