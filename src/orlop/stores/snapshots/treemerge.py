"""Applying a layer's tree to a directory that holds what is below it, as extracting the layer's archive there would.

Whiteouts remove, opaque directories are emptied first, implied directories leave what is there alone (a link to a
directory is followed, inside the root only), foreign hard links become hard links. What `overlay` settles with a
fix-up directory is settled here by doing it.
May import its neighbours, `fsio` and `errors`.
"""

from __future__ import annotations

import os
import stat

from ...base import errors, fsio
from .stackview import View, is_opaque, is_whiteout, normal
from .treecopy import Copier

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_HELD = ".orlop-held-links"


def merge(
    tree: str,
    root: str,
    implied: Sequence[str],
    foreign_links: Sequence[tuple[str, str]],
    layer: str,
) -> None:
    """Apply the layer in `tree` (overlay form) to the directory `root`.

    implied, foreign_links: what the layer's builder recorded; layer: its name for messages. Raises DataLoss for a hard
    link to nothing and for files put below a link that leads to no directory; OSError.
    """
    _Merge(tree, root, implied, layer).run(foreign_links)


class _Merge:
    def __init__(self, tree: str, root: str, implied: Sequence[str], layer: str) -> None:
        self._tree = tree
        self._root = root
        self._implied = frozenset(normal(path) for path in implied)
        self._layer = layer
        self._copier = Copier()
        self._copies: dict[tuple[int, int], str] = {}
        self._times: dict[str, os.stat_result] = {}
        self._own = View([tree])
        # (implied directory of the layer, link that stands there): merged last, what has its real name goes first.
        self._moved: list[tuple[str, str]] = []
        self._kept: set[str] = set()  # those links

    def run(self, foreign_links: Sequence[tuple[str, str]]) -> None:
        held_links = self._hold([(normal(name), normal(target)) for name, target in foreign_links])
        self._directory("", "")
        while self._moved:
            source, link = self._moved.pop(0)
            self._directory(source, self._lead(link), moved=True)
        for name, held in held_links:
            if self._own.lookup(name) is None:
                self._place_link(held, name)
        if held_links:
            fsio.remove_tree(f"{self._root}/{_HELD}")
        # Last, when nothing is put anywhere any more; children before parents.
        for path, status in reversed(self._times.items()):
            os.utime(self._at(path), ns=(status.st_atime_ns, status.st_mtime_ns))

    def _at(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    # ------------------------------------------------------------ directories

    def _directory(self, source: str, target: str, *, moved: bool = False) -> None:
        """Merge the layer's directory `source` into `target`, both relative; moved: a link has led there."""
        place = f"{self._tree}/{source}" if source else self._tree
        there = self._at(target)
        status = os.lstat(place)
        now = _lstat(there)
        explicit = source not in self._implied
        if moved and not explicit and is_opaque(place):
            raise self._refusal(source, "it would be emptied as well")
        if moved and explicit and target not in self._implied and self._own.lookup(target) is not None:
            explicit = False  # the layer says of that directory itself what it is like
        if now is not None and not explicit and stat.S_ISLNK(now.st_mode):
            self._moved.append((source, target))
            self._kept.add(target)
            return
        if now is not None and not stat.S_ISDIR(now.st_mode):
            os.unlink(there)
            now = None
        if now is None:
            self._make(target)
            explicit = True  # nothing there whose attributes an implied directory could leave alone
        elif is_opaque(place) and not (moved and self._own.lookup(target) is not None):
            self._keep_times(target)
            self._empty(target)
        if explicit:
            self._copier.attributes(place, there, status)
            self._times[target] = status
        elif now is not None:
            self._keep_times(target)
        with os.scandir(place) as entries:
            names = sorted(entry.name for entry in entries)
        for name in names:
            self._entry(f"{source}/{name}" if source else name, f"{target}/{name}" if target else name, moved)

    def _entry(self, source: str, target: str, moved: bool) -> None:
        place = f"{self._tree}/{source}"
        status = os.lstat(place)
        if moved and target in self._kept:
            raise self._refusal(source, "it would replace the link itself")
        own = self._own.lookup(target) if moved else None
        if stat.S_ISDIR(status.st_mode):
            if own is None or own.is_dir:
                self._directory(source, target, moved=moved)
            return
        if own is not None:
            return
        self._remove(target)
        if is_whiteout(status):
            return
        first = self._copies.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
        if first is not None:
            os.link(first, self._at(target), follow_symlinks=False)
            return
        self._copier.file(place, self._at(target), status)
        if status.st_nlink > 1:
            self._copies[status.st_dev, status.st_ino] = self._at(target)

    def _make(self, path: str) -> None:
        """Make a directory and its missing parents, root:root 0755."""
        parent = path.rpartition("/")[0]
        if _lstat(self._at(parent)) is None:
            self._make(parent)
        else:
            self._keep_times(parent)
        os.mkdir(self._at(path))
        os.chmod(self._at(path), 0o755)

    def _empty(self, path: str) -> None:
        for name in os.listdir(self._at(path)):
            if path or name != _HELD:
                self._remove(f"{path}/{name}" if path else name)

    def _remove(self, path: str) -> None:
        place = self._at(path)
        status = _lstat(place)
        if status is None:
            return
        if not stat.S_ISDIR(status.st_mode):
            os.unlink(place)
            return
        for gone in [known for known in self._times if known == path or known.startswith(f"{path}/")]:
            del self._times[gone]
        fsio.remove_tree(place)

    def _keep_times(self, path: str) -> None:
        if path not in self._times:
            self._times[path] = os.lstat(self._at(path))

    def _lead(self, path: str) -> str:
        """Where a link leads inside the root: a directory, which is made when it is missing."""
        try:
            target = View([self._root]).resolve(path)
        except OSError as error:
            raise self._refusal(path, error.strerror or str(error)) from error
        now = _lstat(self._at(target))
        if now is not None and not stat.S_ISDIR(now.st_mode):
            raise self._refusal(path, f"{target} is not a directory")
        if now is None:
            self._make(target)
        return target

    def _refusal(self, path: str, why: str) -> errors.DataLoss:
        return errors.DataLoss(
            f"layer {self._layer} puts files into {path}, which is a symbolic link in the layers below: {why}",
            advice="the image is broken; ask who built it",
        )

    # ------------------------------------------------------------ foreign hard links

    def _hold(self, links: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Link the targets aside before the layer can replace them: (name, where its file is held)."""
        held: dict[str, str] = {}
        for number, (name, target) in enumerate(links):
            view = View([self._root])
            try:
                parent = view.resolve(target.rpartition("/")[0])
            except OSError as error:
                raise self._bad_link(name, target, error.strerror or str(error)) from error
            base = target.rpartition("/")[2]
            found = view.lookup(f"{parent}/{base}" if parent else base)
            source = held.get(target) or (found.path if found else "")
            if not source:
                raise self._bad_link(name, target, "no layer below has it")
            if found is not None and found.is_dir and target not in held:
                raise self._bad_link(name, target, "that is a directory")
            if not held:
                self._keep_times("")
                os.mkdir(f"{self._root}/{_HELD}", 0o700)
            place = f"{self._root}/{_HELD}/{number}"
            os.link(source, place, follow_symlinks=False)
            held[name] = place
        return list(held.items())

    def _place_link(self, held: str, name: str) -> None:
        parent, _, base = name.rpartition("/")
        parent = self._lead(parent)
        path = f"{parent}/{base}" if parent else base
        self._keep_times(parent)
        self._remove(path)
        os.link(held, self._at(path), follow_symlinks=False)

    def _bad_link(self, name: str, target: str, why: str) -> errors.DataLoss:
        return errors.DataLoss(
            f"layer {self._layer}: hard link {name} to {target} cannot be made: {why}",
            advice="the image is broken; ask who built it",
        )


def _lstat(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None
