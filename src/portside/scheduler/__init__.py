"""Columnar scheduler: filters are masks, scores are arrays."""
