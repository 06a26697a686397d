"""Names the kubelet gives to labels, annotations and paths; kept so that crictl and other node tools recognise our pods."""

from __future__ import annotations

POD_NAME = "io.kubernetes.pod.name"
POD_NAMESPACE = "io.kubernetes.pod.namespace"
POD_UID = "io.kubernetes.pod.uid"
CONTAINER_NAME = "io.kubernetes.container.name"
RESTART_COUNT = "io.kubernetes.container.restartCount"
SPEC_HASH = "io.kubernetes.container.hash"
MESSAGE_PATH = "io.kubernetes.container.terminationMessagePath"
MESSAGE_POLICY = "io.kubernetes.container.terminationMessagePolicy"
POD_GRACE = "io.kubernetes.pod.terminationGracePeriod"
SOURCE_ANNOTATION = "kubernetes.io/config.source"
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"


def pod_text(pod: dict[str, object]) -> str:
    """``name_namespace(uid)``, as kubelet names a pod in its messages."""
    meta = pod["metadata"]
    assert isinstance(meta, dict)
    return f"{meta['name']}_{meta['namespace']}({meta['uid']})"
