"""The portside command: thin verbs, lazily imported."""
