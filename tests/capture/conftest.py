"""The agent and the simulated providers, for tests of capture."""

from tests.around import agent, providers, simulator
from tests.roots import few_roots, one_root

__all__ = ["agent", "few_roots", "one_root", "providers", "simulator"]
