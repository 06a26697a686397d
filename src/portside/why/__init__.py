"""Why something does not work: a table of causes, each a pure function over what was read of the cluster.

It needs nothing but the Kubernetes API, and knows no way to reach it: who asks brings a function that reads.
"""
