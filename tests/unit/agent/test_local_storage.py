"""The folders behind claims on this node: made open for a provisioned claim, as the owner says otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from portside.agent.projection import Projector
from portside.agent.sources import CLAIMS, VOLUMES, Sources
from portside.agent.volumes import LOCAL_PATH, Volumes
from portside.client.fake import FakeClient

Json = dict[str, Any]
POD: Json = {
    "metadata": {"name": "p", "namespace": "ns", "uid": "u"},
    "spec": {"volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "c"}}]},
}


async def prepared(root: Path, *, provisioned: bool) -> Path:
    """The host path that a container gets for the claim."""
    client = FakeClient()
    claim = {"metadata": {"name": "c", "namespace": "ns"}, "spec": {"volumeName": "v"}, "status": {"phase": "Bound"}}
    await client.create(CLAIMS, claim, namespace="ns")
    notes = {"pv.kubernetes.io/provisioned-by": LOCAL_PATH} if provisioned else {}
    source = {"path": str(root / "volumes" / "v"), "type": "DirectoryOrCreate"}
    await client.create(VOLUMES, {"metadata": {"name": "v", "annotations": notes}, "spec": {"hostPath": source}})
    sources = Sources(client, "n")
    volumes = Volumes(root / "pods", root / "memory", sources, Projector(sources))
    path: Path = await volumes._claimed(POD, POD["spec"]["volumes"][0], None)
    return path


async def test_a_provisioned_folder_is_open_to_any_user_of_its_pod_but_not_to_the_house(tmp_path: Path) -> None:
    path = await prepared(tmp_path, provisioned=True)
    assert path.stat().st_mode & 0o777 == 0o777
    assert path.parent.stat().st_mode & 0o777 == 0o700
    (path / "data").write_text("kept")
    assert (await prepared(tmp_path, provisioned=True) / "data").read_text() == "kept"


async def test_a_folder_of_a_persons_own_volume_keeps_the_usual_mode(tmp_path: Path) -> None:
    path = await prepared(tmp_path, provisioned=False)
    assert path.stat().st_mode & 0o002 == 0
