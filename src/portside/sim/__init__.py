"""Simulated nodes: the agent's API behaviour without a runtime."""

from portside.sim.nodes import run

__all__ = ["run"]
