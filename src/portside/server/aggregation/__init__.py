"""Aggregation: APIServices, and the servers behind those that are served elsewhere."""
