"""Composition root: settings to running components."""
