"""The agent, the simulated providers and the clients, for tests of the guard in the call path."""

from tests.around import agent, as_in_production, clients, providers, simulator

__all__ = ["agent", "as_in_production", "clients", "providers", "simulator"]
