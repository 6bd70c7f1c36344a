"""Volumes: directories that outlive the containers they are mounted in. The interface of the volume store.

The life of a volume
    create            a named volume, or an anonymous one (a random name of 64 hex digits), empty. Containers made by
                      the engine create theirs with `use`, which also notes the container: as long as that container's
                      record exists its volumes cannot be removed. The note goes with the record, in one transaction.
    populate          the first time a volume is mounted, what the image has at that place is copied into it, if it is
                      empty (Docker's copy-up).
    remove            only when no container uses it.

A volume is found by its name within a namespace; its files lie at `path(name)`. Source: docker-volume(1).
"""

from __future__ import annotations

from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Protocol
else:
    Protocol = object

DRIVER = "local"
"""The one driver there is."""


class Volume(Record):
    """options: those of the driver ("device", "type", "o"). anonymous: made for one container, without a name."""

    name: str
    driver: str = DRIVER
    options: dict[str, str] = {}
    labels: dict[str, str] = {}
    anonymous: bool = False
    created_ns: int = 0


class VolumeStore(Protocol):
    def create(
        self, name: str = "", *, driver: str = DRIVER, options: Mapping[str, str], labels: Mapping[str, str]
    ) -> Volume:
        """A volume; one of that name that is there already is returned as it is.

        "" makes an anonymous one. AlreadyExists when it is there with other options, InvalidArgument for a bad name,
        an unknown driver or an unknown option.
        """

    def use(self, name: str, container: str, *, options: Mapping[str, str], labels: Mapping[str, str]) -> Volume:
        """As `create`, and note that a container uses it. NotFound when that container has no record."""

    def get(self, name: str) -> Volume:
        """NotFound."""

    def list(self) -> Sequence[Volume]:
        """All, in order of name."""

    def users(self, name: str) -> Sequence[str]:
        """Ids of the containers that use it."""

    def used_by(self, container: str) -> Sequence[Volume]:
        """The volumes that a container uses."""

    def unused(self) -> Sequence[Volume]:
        """Those that no container uses."""

    def path(self, volume: Volume) -> str:
        """The directory that holds its files."""

    def populate(self, volume: Volume, source: str) -> bool:
        """Copy the directory `source` into it if it is empty, attributes of the directory itself too; whether it did.

        Whoever comes meanwhile waits. A copy that was cut off is begun again by the next.
        """

    def remove(self, name: str) -> None:
        """NotFound; FailedPrecondition while a container uses it."""

    def cleanup(self) -> None:
        """Delete directories that no row names (left by a crash)."""
