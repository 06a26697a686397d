"""A pod's volumes on this node: made before the containers, kept up to date, removed with the pod."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from portside.agent import atomic_dir, beneath
from portside.agent.environment import Place
from portside.agent.projection import Projector, VolumeProblem
from portside.agent.resources import whole
from portside.agent.sources import Sources

Json = dict[str, Any]
PROJECTED = ("configMap", "secret", "downwardAPI", "projected")
SECRET = ("secret", "projected")
LOCAL_PATH = "portside.io/local-path"  # the provisioner of folders on nodes
NODE_PLUGINS = {
    "configMap": "configmap",
    "secret": "secret",
    "downwardAPI": "downward-api",
    "projected": "projected",
    "image": "image",
}


def _kind(volume: Json) -> str:
    return next((key for key in volume if key != "name"), "emptyDir")


def _host_path(source: Json) -> Path:
    """Check or make a hostPath by its type. Raises VolumeProblem with the kubelet's words."""
    path, kind = Path(source["path"]), source.get("type") or ""
    if kind == "DirectoryOrCreate" and not path.exists():
        path.mkdir(mode=0o755, parents=True)
    elif kind == "FileOrCreate" and not path.exists():
        path.touch(mode=0o644)
    tests = {
        "Directory": (stat.S_ISDIR, "a directory"),
        "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
        "File": (stat.S_ISREG, "a file"),
        "FileOrCreate": (stat.S_ISREG, "a file"),
        "Socket": (stat.S_ISSOCK, "a socket file"),
        "CharDevice": (stat.S_ISCHR, "a character device"),
        "BlockDevice": (stat.S_ISBLK, "a block device"),
    }
    if kind in tests:
        test, noun = tests[kind]
        try:
            fits = test(path.stat().st_mode)
        except OSError:
            fits = False
        if not fits:
            raise VolumeProblem(f"hostPath type check failed: {path} is not {noun}")
    elif not path.exists():
        path.mkdir(mode=0o755, parents=True)
    return path


def _open_folder(path: Path) -> None:
    """A provisioned folder is its claim's alone: any user of the pod may write. Those above stay closed."""
    if not path.exists():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.mkdir(mode=0o777)
        path.chmod(0o777)


class Volumes:
    """Makes and refreshes volumes below ``root`` (disk) and ``memory`` (a tmpfs, for secrets)."""

    def __init__(self, root: Path, memory: Path, sources: Sources, projector: Projector) -> None:
        self.root = root
        self.memory = memory
        self._sources = sources
        self._projector = projector

    def start(self) -> None:
        """Folders, and the tmpfs for secrets (kept over restarts of the agent; a reboot empties it)."""
        for folder in (self.root, self.memory):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not os.path.ismount(self.memory):
            flags = beneath.MS_NOSUID | beneath.MS_NODEV | beneath.MS_NOEXEC
            beneath.mount("tmpfs", str(self.memory), "tmpfs", flags, "mode=0700")

    def folder(self, uid: str) -> Path:
        return self.root / uid

    def _place(self, uid: str, volume: Json, kind: str) -> Path:
        if kind in SECRET:
            return self.memory / uid / str(volume["name"])
        plugin = NODE_PLUGINS.get(kind, "empty-dir")
        return self.folder(uid) / "volumes" / f"kubernetes.io~{plugin}" / str(volume["name"])

    async def prepare(self, pod: Json, place: Place) -> dict[str, Path]:
        """Make all volumes; host paths by volume name. Raises VolumeProblem. May be repeated."""
        volumes = pod["spec"].get("volumes") or ()
        made = await asyncio.gather(*(self._one(pod, volume, place) for volume in volumes))
        return {volume["name"]: path for volume, path in zip(volumes, made, strict=True)}

    async def refresh(self, pod: Json, place: Place) -> None:
        """Bring projected files up to date. Raises VolumeProblem."""
        for volume in pod["spec"].get("volumes") or ():
            if _kind(volume) in PROJECTED:
                await self._one(pod, volume, place)

    async def _one(self, pod: Json, volume: Json, place: Place) -> Path:
        uid, kind = str(pod["metadata"]["uid"]), _kind(volume)
        name = volume["name"]
        group = (pod["spec"].get("securityContext") or {}).get("fsGroup")
        try:
            if kind in PROJECTED:
                files = await self._projector.files(pod, volume, place)
                if group is not None:
                    files = {k: atomic_dir.Payload(v.data, v.mode | 0o440, v.uid) for k, v in files.items()}
                path = self._place(uid, volume, kind)
                atomic_dir.write(path, files, group=group)
                return path
            if kind == "emptyDir":
                return self._empty(self._place(uid, volume, kind), volume.get("emptyDir") or {}, group)
            if kind == "image":
                return self._place(uid, volume, kind)  # mounted for the first container that wants it
            if kind == "hostPath":
                return _host_path(volume["hostPath"])
            if kind in ("persistentVolumeClaim", "ephemeral"):
                return await self._claimed(pod, volume, group)
        except VolumeProblem as problem:
            raise VolumeProblem(f'MountVolume.SetUp failed for volume "{name}" : {problem}') from None
        except (OSError, ValueError) as problem:
            raise VolumeProblem(f'MountVolume.SetUp failed for volume "{name}" : {problem}') from problem
        raise VolumeProblem(f'MountVolume.SetUp failed for volume "{name}" : {kind} volumes are not supported here')

    @staticmethod
    def _empty(path: Path, source: Json, group: int | None) -> Path:
        path.mkdir(mode=0o777, parents=True, exist_ok=True)
        if source.get("medium") == "Memory" and not os.path.ismount(path):
            size = f"size={whole(source['sizeLimit'])}" if source.get("sizeLimit") else ""
            beneath.mount("tmpfs", str(path), "tmpfs", 0, size)
        os.chmod(path, 0o777 | (stat.S_ISGID if group is not None else 0))
        if group is not None:
            os.chown(path, -1, group)
            os.chmod(path, 0o777 | stat.S_ISGID)
        return path

    async def _claimed(self, pod: Json, volume: Json, group: int | None) -> Path:
        """The path behind a bound claim whose volume is a hostPath or local one."""
        meta = pod["metadata"]
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName") or f"{meta['name']}-{volume['name']}"
        claim = await self._sources.claim(meta["namespace"], name)
        if claim is None:
            raise VolumeProblem(f'persistentvolumeclaim "{name}" not found')
        owners = claim["metadata"].get("ownerReferences") or ()
        if "ephemeral" in volume and meta["uid"] not in {o["uid"] for o in owners if o.get("controller")}:
            raise VolumeProblem(
                f"PVC {meta['namespace']}/{name} was not created for pod {meta['name']} (pod is not owner)"
            )
        bound = claim["spec"].get("volumeName")
        if not bound or (claim.get("status") or {}).get("phase") != "Bound":
            raise VolumeProblem(f'persistentvolumeclaim "{name}" is not bound')
        found = await self._sources.volume(bound)
        spec = (found or {}).get("spec") or {}
        if source := spec.get("hostPath"):
            made_for = ((found or {}).get("metadata") or {}).get("annotations") or {}
            if made_for.get("pv.kubernetes.io/provisioned-by") == LOCAL_PATH:
                _open_folder(Path(source["path"]))
            path = _host_path(source)
        elif source := spec.get("local"):
            path = Path(source["path"])
            if not path.exists():
                raise VolumeProblem(f'path "{path}" does not exist')
        else:
            raise VolumeProblem(f'persistent volume "{bound}" is of a kind this node can\'t mount')
        if group is not None and path.stat().st_gid != group:
            os.chown(path, -1, group)
            os.chmod(path, path.stat().st_mode | stat.S_ISGID | 0o070)
        return path

    def sub_path(self, pod: Json, mount: Json, index: int, container: str, volume: Path, sub: str) -> Path:
        """The host path of a subPath, bound under the pod's folder so that it can't be exchanged any more."""
        target = (
            self.folder(str(pod["metadata"]["uid"])) / "volume-subpaths" / str(mount["name"]) / container / str(index)
        )
        if os.path.ismount(target):
            beneath.unmount(str(target))
        try:
            mode = 0o777 if volume.is_relative_to(self.root) else volume.stat().st_mode & 0o777
            descriptor = beneath.open_sub_path(volume, sub, mode=mode)
        except (OSError, beneath.Outside) as problem:
            raise VolumeProblem(f'failed to prepare subPath for volumeMount "{mount["name"]}": {problem}') from None
        try:
            beneath.bind_descriptor(descriptor, target)
        finally:
            os.close(descriptor)
        return target

    def images(self, uid: str) -> list[str]:
        """Where images are mounted for the pod."""
        folder = self.folder(uid) / "volumes" / f"kubernetes.io~{NODE_PLUGINS['image']}"
        return beneath.mounted_below(folder)

    def remove(self, uid: str) -> None:
        """Unmount and delete everything of the pod. Repeatable. What other file systems hold is never deleted."""
        self._projector.forget(uid)
        folder = self.folder(uid)
        for point in beneath.mounted_below(folder):
            beneath.unmount(point)
        if not beneath.mounted_below(folder):
            shutil.rmtree(folder, ignore_errors=True)
        shutil.rmtree(self.memory / uid, ignore_errors=True)

    def leftovers(self, known: Mapping[str, Any]) -> list[str]:
        """Pods' folders nobody owns any more."""
        found = {entry.name for root in (self.root, self.memory) if root.exists() for entry in os.scandir(root)}
        return sorted(found - set(known))
