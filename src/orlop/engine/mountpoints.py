"""What is mounted in a container besides its root: volumes, images, binds, from flags to directories of this machine.

Loaded when a container is created that has any. What can be bound as it lies becomes a bind at once. What cannot (a
path inside a volume, which another container may swap for a link until the start; an image, which is a stack) is
`staged`: mounted by `staging` at each start. Kept in the record as "orlop.mounts" (for --volumes-from and inspect) and
"orlop.staged" (for start).
"""

from __future__ import annotations

import os

from ..base import errors
from ..base.kernel import mounts as kernel_mounts
from ..services.runtime.mounts import Mount
from . import staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from ..base.cancel import Cancel
    from ..services.runtime.options import RunOptions
    from ..stores.containers.api import Container as Record
    from ..stores.snapshots.api import Mount as SnapshotMount
    from ..stores.volumes.api import Volume
    from .wiring import Wiring

_KEPT = (
    "type", "source", "target", "read_only", "options", "propagation", "recursive", "recursive_read_only", "subpath",
)  # fmt: skip
"""Fields of a Mount that are kept in the record."""


def settle(
    wiring: Wiring,
    id: str,
    asked: RunOptions,
    image_volumes: Sequence[str],
    stack: Sequence[SnapshotMount],
    cancel: Cancel,
) -> tuple[RunOptions, dict[str, Any]]:
    """The options with binds in place of volumes and images, and the extensions to keep in the container's record.

    id: of the container, whose record exists: it takes hold of its volumes. stack: how its own root is mounted, for
    what is copied from it into new volumes. Raises UsageError, NotFound, FailedPrecondition, ResourceExhausted.
    """
    chosen = list(asked.mounts)
    places = {mount.target for mount in chosen} | {_clean(text.partition(":")[0]) for text in asked.tmpfs}
    inherited = [mount for mount in _from_others(wiring, asked.volumes_from) if mount.target not in places]
    places |= {mount.target for mount in inherited}
    implied = [Mount("volume", target) for target in map(_clean, image_volumes) if target not in places | {"/"}]
    fresh = {mount.target for mount in (*chosen, *implied)}  # what is inherited is filled already
    copier = _CopyUp(stack, f"{wiring.record_dir(id)}/root")
    binds: list[Mount] = []
    kept: list[dict[str, Any]] = []
    staged: list[dict[str, Any]] = []
    try:
        for mount in (*chosen, *inherited, *implied):
            cancel.check()
            kept.append({name: _plain(getattr(mount, name)) for name in _KEPT})
            if mount.type == "volume":
                volume = _volume(wiring, id, mount)
                kept[-1].update(name=volume.name, path=wiring.volumes.path(volume))
                if mount.target in fresh and "volume-nocopy" not in mount.labels and not mount.subpath:
                    copier.fill(wiring, volume, mount.target)
                if mount.subpath:
                    staged.append({"kind": "volume", "volume": volume.name, "subpath": mount.subpath})
                    source = staging.point(wiring, id, len(staged) - 1)
                else:
                    source = wiring.volumes.path(volume)
                mount = mount.replace(type="bind", source=source, recursive=True, subpath="")
            elif mount.type == "image":
                staged.append({"kind": "image", "key": _view(wiring, id, mount.source, len(staged), cancel)})
                if mount.subpath:
                    staged[-1]["subpath"] = mount.subpath
                source = staging.point(wiring, id, len(staged) - 1)
                mount = mount.replace(type="bind", source=source, read_only=True, recursive=False, subpath="")
            elif mount.type == "bind" and not mount.recursive and os.path.isdir(mount.source):
                staged.append({"kind": "bind", "source": mount.source, "propagation": mount.propagation})
                mount = mount.replace(source=staging.point(wiring, id, len(staged) - 1))
            binds.append(mount)
    finally:
        copier.close()
    extensions: dict[str, Any] = {"orlop.mounts": kept}
    if staged:
        extensions["orlop.staged"] = staged
    return asked.replace(mounts=tuple(binds)), extensions


def leave(wiring: Wiring, record: Record, *, volumes: bool) -> list[str]:
    """Before a container's record goes: drop its views of images.

    Returns, with volumes, the names of its anonymous volumes, to be handed to `drop` once the record has gone.
    """
    snapshots = wiring.snapshotter(record.snapshotter)
    for each in record.extensions.get(staging.STAGED, ()):
        if each["kind"] == "image":
            try:
                snapshots.remove(each["key"])
            except errors.NotFound:
                pass
    return held(wiring, record.id) if volumes else []


def held(wiring: Wiring, id: str) -> list[str]:
    """The anonymous volumes of a container, to be removed once its record has gone."""
    return [volume.name for volume in wiring.volumes.used_by(id) if volume.anonymous]


def drop(wiring: Wiring, names: Iterable[str]) -> None:
    """Remove volumes that nobody uses any more; the others stay."""
    for name in names:
        try:
            wiring.volumes.remove(name)
        except (errors.NotFound, errors.FailedPrecondition):
            pass


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _clean(path: str) -> str:
    return os.path.normpath(f"/{path.lstrip('/')}")


def _from_others(wiring: Wiring, wanted: Iterable[str]) -> list[Mount]:
    """The mounts of the containers that --volumes-from names; of two at one place the first."""
    found: dict[str, Mount] = {}
    for text in wanted:
        name, colon, mode = text.partition(":")
        if not name or (colon and mode not in ("ro", "rw", "z", "Z")):
            raise errors.UsageError(f"invalid --volumes-from {text!r}: the form is CONTAINER[:ro|rw]")
        try:
            record = wiring.containers.resolve(name)
        except errors.NotFound:
            raise errors.NotFound(f"--volumes-from {name}: no such container: {name}") from None
        for kept in record.extensions.get("orlop.mounts", ()):
            if kept["type"] not in ("volume", "bind"):
                continue
            values: dict[str, Any] = {key: kept[key] for key in _KEPT if key in kept}
            mount = Mount(**{**values, "options": tuple(kept.get("options", ()))})
            if mount.type == "volume":
                mount = mount.replace(source=kept["name"])
            if mode == "ro":
                mount = mount.replace(read_only=True)
            found.setdefault(mount.target, mount)
    return list(found.values())


def _volume(wiring: Wiring, id: str, mount: Mount) -> Volume:
    """The volume of a mount, made if it is new, held by the container."""
    driver, options, labels = "local", {}, {}
    for text in mount.labels:
        key, _, value = text.partition("=")
        name, _, setting = value.partition("=")
        if key == "volume-driver":
            driver = value
        elif key == "volume-opt":
            options[name] = setting
        elif key == "volume-label":
            labels[name] = setting
    try:
        return wiring.volumes.use(mount.source, id, driver=driver, options=options, labels=labels)
    except errors.InvalidArgument as error:
        raise errors.UsageError(f"--mount at {mount.target}: {error.message}", advice=error.advice) from None


def _view(wiring: Wiring, id: str, name: str, number: int, cancel: Cancel) -> str:
    """A read-only snapshot of an image, kept as long as the container is; returns its key."""
    from .images import Images

    images = Images(wiring)
    try:
        image = images.resolve(name)
    except errors.NotFound:
        raise errors.NotFound(f"--mount type=image: no such image: {name}", advice=f"orlop pull {name}") from None
    key = f"{id}-image-{number}"
    labels = {"containerd.io/gc.bref.container": id}
    try:
        wiring.snapshots.view(key, image.chain_id, labels)
    except errors.NotFound:
        images.unpack(image.image.name, platform=image.config.platform, cancel=cancel)
        wiring.snapshots.view(key, image.chain_id, labels)
    return key


class _CopyUp:
    """Fills new volumes with what the image has at their place.

    The container's root is mounted for that, read-only, and at once taken out of the tree again: only a descriptor
    holds it, so a crash leaves no mount. Links in the image are followed inside of it.
    """

    def __init__(self, stack: Sequence[SnapshotMount], point: str) -> None:
        self._stack = stack
        self._point = point
        self._root = -1

    def fill(self, wiring: Wiring, volume: Volume, target: str) -> None:
        from ..base.kernel import files

        try:
            found = files.openat2(self._open(), target, os.O_PATH, 0, files.RESOLVE_IN_ROOT)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise errors.from_os(error, f"look at {target} in the image") from error
        try:
            if not os.path.isdir(f"/proc/self/fd/{found}/."):
                raise errors.UsageError(f"cannot mount volume over existing file, file exists {target}")
            wiring.volumes.populate(volume, f"/proc/self/fd/{found}/.")
        finally:
            os.close(found)

    def _open(self) -> int:
        if self._root >= 0:
            return self._root
        os.makedirs(self._point, 0o700, exist_ok=True)
        stack = [mount.replace(options=(*mount.options, "ro")) for mount in self._stack]
        kernel_mounts.mount_all(stack, self._point)
        try:
            self._root = os.open(self._point, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        finally:
            kernel_mounts.umount2(self._point, kernel_mounts.MNT_DETACH)
            os.rmdir(self._point)
        return self._root

    def close(self) -> None:
        if self._root >= 0:
            os.close(self._root)
            self._root = -1
