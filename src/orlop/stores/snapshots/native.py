"""Snapshots as whole copies: for file systems and kernels on which overlayfs cannot work.

    <number>/fs     everything the snapshot shows

Every snapshot but a view is a copy of its parent (a clone, where the file system can), so it costs the parent's size
and time; mounts are binds. A view shows its parent's own directory, read-only.
"""

from __future__ import annotations

import os

from ...base import errors
from ..layers.local import tree_path
from .api import Mount
from .local import LocalSnapshotter, snapshots_path
from .treecopy import Copier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..metadata.database import Database
    from ..metadata.layers import LayerRow
    from ..metadata.snapshots import SnapshotRow


class NativeSnapshotter(LocalSnapshotter):
    """The native snapshotter."""

    name = "native"

    def __init__(self, db: Database, root: str, namespace: str) -> None:
        super().__init__(db, root, namespace, NativeFiles(root))


class NativeFiles:
    """How native's snapshots lie on disk and are mounted."""

    slow = True

    def __init__(self, root: str) -> None:
        self._root = root
        self._base = snapshots_path(root, NativeSnapshotter.name)

    def mounts(self, row: SnapshotRow, below: Sequence[SnapshotRow]) -> list[Mount]:
        shown = below[0].number if row.kind == "view" and below else row.number
        path = f"{self._directory(shown)}/fs"
        if not os.path.isdir(path):
            raise errors.DataLoss(
                f"the files of snapshot {row.key} are missing ({path})", advice="remove it and make it again"
            )
        return [Mount("bind", path, "", ("rbind", "rw" if row.kind == "active" else "ro"))]

    def make(self, directory: str, kind: str, below: Sequence[SnapshotRow]) -> None:
        if kind == "view" and below:
            return
        self._copy(directory, below)

    def stacking_needs_files(self, layer: LayerRow) -> bool:
        if layer.form != "tree":
            raise errors.Unimplemented(f"layer {layer.diff_id} is kept as {layer.form}; native copies trees")
        return True

    def stack(self, directory: str, below: Sequence[SnapshotRow], layer: LayerRow) -> bool:
        from . import treemerge

        self._copy(directory, below)
        tree = tree_path(self._root, layer.diff_id)
        treemerge.merge(tree, f"{directory}/fs", layer.implied, layer.foreign_links, layer.diff_id)
        return True

    def _directory(self, number: int) -> str:
        return f"{self._base}/{number}"

    def _copy(self, directory: str, below: Sequence[SnapshotRow]) -> None:
        target = f"{directory}/fs"
        os.mkdir(target, 0o755)
        if below:
            Copier().tree(f"{self._directory(below[0].number)}/fs", target)
        else:
            os.chmod(target, 0o755)
