"""Defaults and validation that a schema cannot express: one file per kind or part of it, found through ``registry``."""
