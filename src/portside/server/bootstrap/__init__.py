"""The objects every cluster starts with, as tables, and the pass at start-up that puts in what is missing."""
