"""Priority and fairness: which requests wait for which, when there are more of them than the server takes at once."""
