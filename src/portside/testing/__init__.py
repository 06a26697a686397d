"""What Portside's users put into their own tests: a live Kubernetes API in the test's own process, in a fraction of a second.

    from portside.testing import cluster

    with cluster(nodes=2) as api:
        kubernetes.config.load_kube_config(str(api.kubeconfig))
        ...

With pytest installed the fixtures ``portside``, ``portside_cluster`` and ``portside_fresh`` are there without any import
(``plugin.py``); ``docs/how-to/test-with-portside.md`` shows them with each client library.
"""

from portside.testing.cluster import Api, NotReady, cluster

__all__ = ["Api", "NotReady", "cluster"]
