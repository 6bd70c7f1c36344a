"""The verbs of volumes: create, list, inspect, remove, prune."""

from __future__ import annotations

import os

from ..base import errors
from ..base.record import Record
from . import views

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from ..stores.volumes.api import Volume
    from .wiring import Wiring


class Pruned(Record):
    """names: of the volumes that went. size: bytes on disk that they took."""

    names: tuple[str, ...]
    size: int


class Volumes:
    """The volumes of one engine."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._store = wiring.volumes

    def create(
        self,
        name: str = "",
        *,
        driver: str = "local",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """Make a volume; one of that name that is there already is left as it is ("" makes an anonymous one).

        AlreadyExists when it is there with other options, InvalidArgument for a bad name, driver or option.
        """
        return self._store.create(name, driver=driver, options=options, labels=labels)

    def get(self, name: str) -> Volume:
        """NotFound when there is none."""
        return self._store.get(name)

    def list(self) -> Sequence[Volume]:
        """All, in order of name."""
        return self._store.list()

    def unused(self) -> Sequence[Volume]:
        """Those that no container uses."""
        return self._store.unused()

    def path(self, volume: Volume) -> str:
        """The directory that holds its files."""
        return self._store.path(volume)

    def users(self, name: str) -> Sequence[str]:
        """Ids of the containers that use it."""
        return self._store.users(name)

    def size(self, volume: Volume) -> int:
        """Bytes on disk that its files take."""
        return _usage(self._store.path(volume))

    def inspect(self, name: str) -> dict[str, Any]:
        """What `orlop volume inspect` prints: Docker's members."""
        volume = self._store.get(name)
        return {
            "CreatedAt": views.time_text(volume.created_ns),
            "Driver": volume.driver,
            "Labels": dict(volume.labels) or None,
            "Mountpoint": self._store.path(volume),
            "Name": volume.name,
            "Options": dict(volume.options) or None,
            "Scope": "local",
            "Anonymous": volume.anonymous,
        }

    def remove(self, name: str) -> None:
        """NotFound; FailedPrecondition while a container uses it."""
        self._store.remove(name)

    def prune(self, volumes: Iterable[Volume]) -> Pruned:
        """Remove those of these volumes that no container uses (now), and what crashes left on disk."""
        names, size = [], 0
        for volume in volumes:
            own = 0 if volume.options.get("device") else self.size(volume)
            try:
                self._store.remove(volume.name)
            except (errors.NotFound, errors.FailedPrecondition):
                continue
            names.append(volume.name)
            size += own
        self._store.cleanup()
        return Pruned(tuple(names), size)


def _usage(top: str) -> int:
    """Bytes on disk below a directory, each inode once; what vanishes meanwhile is passed over."""
    total, seen, queue = 0, set(), [top]
    while queue:
        try:
            entries = os.scandir(queue.pop())
        except OSError:
            continue
        with entries:
            for entry in entries:
                try:
                    status = entry.stat(follow_symlinks=False)
                except OSError:
                    continue
                if (status.st_dev, status.st_ino) in seen:
                    continue
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    queue.append(entry.path)
    return total
