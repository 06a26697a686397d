"""The one way components see the cluster: over HTTP or in-process."""
