"""A revisioned key-value log: keys, bytes and revisions, never a kind."""
