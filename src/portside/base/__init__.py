"""Errors, clock, randomness, supervised tasks, bounded queues. Imports nothing of Portside."""
