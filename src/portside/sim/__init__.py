"""Simulated nodes: the agent's API behaviour without a runtime."""
