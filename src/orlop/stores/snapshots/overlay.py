"""Snapshots as overlayfs mounts over layer trees: nothing is copied until it is written to.

    <number>/fs      active, view: the upper directory; committed by `commit`: that snapshot's layer
    <number>/work    overlayfs's own
    <number>/fix     committed by `stack`: what only the stack can settle (see `fixup`), above the layer; mostly absent

A layer's tree is used where the layer store has it. A layer that occurs twice in a stack is mounted once, uppermost:
whatever the lower one shows, the upper one shows too, and the kernel refuses one directory in two places. The upper
directory's root carries the attributes of the stack's, which it is seen in place of.
"""

from __future__ import annotations

import os

from ...base import errors
from ...base.kernel.mounts import escape_path
from ..layers.local import short_tree_path, tree_path
from .api import Mount
from .local import LocalSnapshotter, snapshots_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..metadata.database import Database
    from ..metadata.layers import LayerRow
    from ..metadata.snapshots import SnapshotRow

_PARAMETERS = "/sys/module/overlay/parameters"


class OverlaySnapshotter(LocalSnapshotter):
    """The overlay snapshotter.

    xino: have the kernel give every file of a mount one device number, with inode numbers that stay unique.
    """

    name = "overlay"

    def __init__(self, db: Database, root: str, namespace: str, *, xino: bool = False) -> None:
        super().__init__(db, root, namespace, OverlayFiles(root, xino))


class OverlayFiles:
    """How overlay's snapshots lie on disk and are mounted."""

    slow = False

    def __init__(self, root: str, xino: bool = False) -> None:
        self._root = root
        self._base = snapshots_path(root, OverlaySnapshotter.name)
        self._xino = xino

    def mounts(self, row: SnapshotRow, below: Sequence[SnapshotRow]) -> list[Mount]:
        directory = self._directory(row.number)
        lower = self._lower(below)
        upper, work = f"{directory}/fs", f"{directory}/work"
        if not lower:
            _make_missing(upper)
            return [Mount("bind", upper, "", ("rbind", "rw" if row.kind == "active" else "ro"))]
        if row.kind == "view" and len(lower) == 1:
            return [Mount("bind", lower[0], "", ("rbind", "ro"))]
        options = _kernel_options()
        if self._xino:
            options += ("xino=on",)
        if row.kind == "active":
            if not os.path.isdir(upper):
                self.make(directory, row.kind, below)  # lost in a power cut: nothing in it was durable
            _make_missing(work)
            options += (f"workdir={escape_path(work)}", f"upperdir={escape_path(upper)}")
        whole = (*options, _lowerdir(lower))
        if len(os.fsencode(",".join(whole))) >= os.sysconf("SC_PAGE_SIZE"):
            whole = (*options, _lowerdir(self._lower(below, short=True)))
        return [Mount("overlay", "overlay", "", whole)]

    def make(self, directory: str, kind: str, below: Sequence[SnapshotRow]) -> None:
        if kind == "view" and below:
            return  # the mount needs no directory of its own
        os.makedirs(directory, 0o700, exist_ok=True)
        upper = f"{directory}/fs"
        os.mkdir(upper, 0o755)
        lower = self._lower(below)
        if lower:
            from .treecopy import Copier

            Copier().attributes(lower[0], upper, os.lstat(lower[0]))
        else:
            os.chmod(upper, 0o755)
        if kind == "active":
            os.mkdir(f"{directory}/work", 0o711)

    def stacking_needs_files(self, layer: LayerRow) -> bool:
        if layer.form != "tree":
            raise errors.Unimplemented(f"layer {layer.diff_id} is kept as {layer.form}; overlay mounts trees")
        return bool(layer.implied or layer.foreign_links)

    def stack(self, directory: str, below: Sequence[SnapshotRow], layer: LayerRow) -> bool:
        from . import fixup

        fix = f"{directory}/fix"
        os.mkdir(fix, 0o755)
        tree = tree_path(self._root, layer.diff_id)
        return fixup.build(fix, tree, self._lower(below), layer.implied, layer.foreign_links, layer.diff_id)

    def _directory(self, number: int) -> str:
        return f"{self._base}/{number}"

    def _lower(self, below: Sequence[SnapshotRow], *, short: bool = False) -> list[str]:
        """The directories that make up a stack, uppermost first, each once. short: by their links where they have."""
        found: dict[str, None] = {}
        for row in below:
            if not row.diff_id:
                found[f"{self._directory(row.number)}/fs"] = None
                continue
            fix = f"{self._directory(row.number)}/fix"
            if os.path.isdir(fix):
                found[fix] = None
            path = short_tree_path if short else tree_path
            found.setdefault(path(self._root, row.diff_id), None)
        return list(found)


def _lowerdir(lower: Sequence[str]) -> str:
    return "lowerdir=" + ":".join([escape_path(path, lower=True) for path in lower])


def _kernel_options() -> tuple[str, ...]:
    """Features that the kernel has on by default and that do not suit layers, off.

    index makes an upper directory belong to one set of lower ones for good; redirect_dir and metacopy leave things in
    the upper directory that only overlayfs can read: what a container has written must be plain files.
    """
    found = []
    for name in ("index", "redirect_dir", "metacopy"):
        try:
            fd = os.open(f"{_PARAMETERS}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            if os.read(fd, 8)[:1] == b"Y":
                found.append(f"{name}=off")
        finally:
            os.close(fd)
    return tuple(found)


def _make_missing(directory: str) -> None:
    # An active snapshot's files are not synced: a power cut may take a new one's directories.
    if not os.path.isdir(directory):
        os.makedirs(directory, 0o755, exist_ok=True)
