"""Volumes on this machine: rows of the metadata database, directories under ROOT/volumes. Mounts nothing.

    volumes/<namespace>/<name>/_data     the files
    volumes/<namespace>/<name>/_new      a copy-up that is being made
    volumes/<namespace>/<name>/_ready    a copy-up that is complete, and is being moved into _data
    volumes/<namespace>/<name>/lock      flock of whoever fills it
    volumes/.trash/<random>              directories of removed volumes, being deleted

A volume exists when its row does. Directories appear and vanish only inside write transactions, so that a name that is
removed and made again at the same time never gets the old files; a crash leaves at most directories without a row.
"""

from __future__ import annotations

import os

from ...base import errors, faults, fsio
from ..metadata import volumes as rows
from .api import DRIVER, Volume

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..metadata.database import Database

_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_REST = _FIRST | frozenset("_.-")
_OPTIONS = ("type", "o", "device")


def check_name(name: str) -> None:
    """Docker's rule: [a-zA-Z0-9][a-zA-Z0-9_.-]*, 255 characters at most. Raises InvalidArgument."""
    if not (0 < len(name) <= 255 and name[0] in _FIRST and _REST.issuperset(name)):
        raise errors.InvalidArgument(
            f"invalid volume name {name[:100]!r}: only [a-zA-Z0-9][a-zA-Z0-9_.-]* is allowed",
            advice="to mount a directory of the host, give its absolute path",
        )


def check_options(driver: str, options: Mapping[str, str]) -> None:
    """The local driver's options: none, or type=none, o=bind, device=/PATH. Raises InvalidArgument."""
    if driver not in ("", DRIVER):
        raise errors.InvalidArgument(f"no volume driver {driver!r}", advice='the only driver is "local"')
    for key in options:
        if key not in _OPTIONS:
            raise errors.InvalidArgument(f"invalid volume option {key!r}", advice=f"known: {', '.join(_OPTIONS)}")
    if not options:
        return
    binds = {"bind", "rbind"}.intersection(options.get("o", "").split(","))
    if options.get("type", "none") not in ("none", "bind", "") or not binds:
        raise errors.InvalidArgument(
            f"volume option type={options.get('type', '')} cannot be mounted: a volume is a directory of this machine",
            advice="use type=none,o=bind,device=/PATH, or mount that file system on the host and bind it",
        )
    if not options.get("device", "").startswith("/"):
        raise errors.InvalidArgument(f"volume option device={options.get('device', '')!r}: give an absolute path")


class LocalVolumeStore:
    """The volumes of one namespace. Safe in many threads and processes."""

    def __init__(self, db: Database, root: str, namespace: str) -> None:
        self._db = db
        self._base = f"{root}/volumes"
        self._namespace = namespace

    def create(
        self,
        name: str = "",
        *,
        driver: str = DRIVER,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """A volume; one of that name that is there already is returned as it is ("" makes an anonymous one).

        AlreadyExists when it is there with other options, InvalidArgument for a bad name, driver or option.
        """
        return self._create(name, driver, options or {}, labels or {}, "")

    def use(
        self,
        name: str,
        container: str,
        *,
        driver: str = DRIVER,
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Volume:
        """As `create`, and note that a container uses it. NotFound when that container has no record."""
        return self._create(name, driver, options or {}, labels or {}, container)

    def _create(
        self, name: str, driver: str, options: Mapping[str, str], labels: Mapping[str, str], container: str
    ) -> Volume:
        check_options(driver, options)
        if name:
            check_name(name)
        wanted = name or os.urandom(32).hex()
        try:
            with self._db.write() as tx:
                found = rows.find(tx, self._namespace, wanted)
                if found is None:
                    found = rows.insert(tx, self._namespace, wanted, DRIVER, options, labels, not name)
                    self._make(wanted)
                    faults.point("volumes.create.made")
                elif options and dict(options) != found[2]:
                    raise errors.AlreadyExists(f"volume {wanted!r} exists with other options")
                if container:
                    rows.use(tx, self._namespace, wanted, container)
                return Volume(*found)
        except OSError as error:
            raise errors.from_os(error, f"create volume {wanted}") from error

    def _make(self, name: str) -> None:
        directory = self._directory(name)
        fsio.make_dirs(f"{self._base}/{self._namespace}", 0o700)
        if os.path.lexists(directory):
            self._to_trash(directory)  # what a crash left of a volume whose row has gone, or never came
        os.mkdir(directory, 0o700)
        os.mkdir(f"{directory}/_data", 0o755)
        os.chmod(f"{directory}/_data", 0o755)

    def get(self, name: str) -> Volume:
        """NotFound."""
        with self._db.read() as tx:
            return Volume(*rows.get(tx, self._namespace, name))

    def list(self) -> Sequence[Volume]:
        """All, in order of name."""
        with self._db.read() as tx:
            return [Volume(*row) for row in rows.listed(tx, self._namespace)]

    def users(self, name: str) -> Sequence[str]:
        """Ids of the containers that use it."""
        with self._db.read() as tx:
            return rows.users(tx, self._namespace, name)

    def used_by(self, container: str) -> Sequence[Volume]:
        """The volumes that a container uses."""
        with self._db.read() as tx:
            return [Volume(*row) for row in rows.used_by(tx, self._namespace, container)]

    def unused(self) -> Sequence[Volume]:
        """Those that no container uses, in order of name."""
        with self._db.read() as tx:
            used = rows.used(tx, self._namespace)
            return [Volume(*row) for row in rows.listed(tx, self._namespace) if row[0] not in used]

    def path(self, volume: Volume) -> str:
        """The directory that holds its files: one of ours, or the one its option `device` names."""
        return volume.options.get("device") or f"{self._directory(volume.name)}/_data"

    def populate(self, volume: Volume, source: str) -> bool:
        """Copy the directory `source` into it if it is empty, with that directory's own attributes; whether it did.

        source: ends in "/." when it is a link (/proc/self/fd/N/.). Others wait meanwhile. A copy that was cut off is
        begun, or carried on with, by the next. A volume that is a directory of the host is left as it is.
        """
        if volume.options.get("device"):
            return False
        directory = self._directory(volume.name)
        data, new, ready = (f"{directory}/{part}" for part in ("_data", "_new", "_ready"))
        try:
            with fsio.lock(f"{directory}/lock"):
                if os.path.lexists(ready):
                    _settle(ready, data)
                    return True
                with os.scandir(data) as entries:
                    if next(entries, None) is not None:
                        return False
                from ..snapshots.treecopy import Copier

                fsio.remove_tree(new)
                os.mkdir(new, 0o700)
                Copier().tree(source, new)
                faults.point("volumes.populate.copied")
                os.rename(new, ready)
                faults.point("volumes.populate.ready")
                _settle(ready, data)
                return True
        except OSError as error:
            raise errors.from_os(error, f"copy the image's files into volume {volume.name}") from error

    def remove(self, name: str) -> None:
        """NotFound; FailedPrecondition while a container uses it."""
        with self._db.write() as tx:
            rows.delete(tx, self._namespace, name)
        faults.point("volumes.remove.row")
        try:
            self._sweep(self._namespace, (name,))
        except OSError:
            pass  # it is gone; `cleanup` tries its files again

    def cleanup(self) -> None:
        """Delete directories that no row of any namespace names (left by a crash), and what was being deleted."""
        try:
            for namespace in _names(self._base):
                if namespace != ".trash":
                    self._sweep(namespace, _names(f"{self._base}/{namespace}"))
        except OSError as error:
            raise errors.from_os(error, "clean up volumes") from error

    def _sweep(self, namespace: str, names: Sequence[str]) -> None:
        """Delete the directories of these names that have no row (looked for where no row can be on its way)."""
        gone = []
        if names:
            with self._db.write() as tx:
                for name in names:
                    directory = f"{self._base}/{namespace}/{name}"
                    if rows.find(tx, namespace, name) is None and os.path.lexists(directory):
                        gone.append(self._to_trash(directory))
        for path in gone:
            fsio.remove_tree(path)
        for name in _names(f"{self._base}/.trash"):
            try:
                fsio.remove_tree(f"{self._base}/.trash/{name}")
            except FileNotFoundError:
                pass  # another was quicker

    def _directory(self, name: str) -> str:
        return f"{self._base}/{self._namespace}/{name}"

    def _to_trash(self, directory: str) -> str:
        trash = f"{self._base}/.trash"
        fsio.make_dirs(trash, 0o700)
        gone = f"{trash}/{os.urandom(8).hex()}"
        os.rename(directory, gone)
        return gone


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _settle(ready: str, data: str) -> None:
    """Move a complete copy into the volume's directory, which containers may have mounted already."""
    from ..snapshots.treecopy import Copier

    for name in _names(ready):
        if os.path.lexists(f"{data}/{name}"):
            fsio.remove_tree(f"{ready}/{name}")  # a container has written it meanwhile: that stays
        else:
            os.rename(f"{ready}/{name}", f"{data}/{name}")
        faults.point("volumes.populate.moved")
    Copier().attributes(ready, data, os.lstat(ready))
    os.rmdir(ready)
