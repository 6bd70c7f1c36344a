"""The one place where parts are joined: which implementation of each interface, bound to which namespace.

Plain code, made when it is first asked for: on the path of `run` only what a run needs is loaded. Holds no verbs.
"""

from __future__ import annotations

import os

from ..base import errors, fsio, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..base.cancel import Cancel
    from ..services.diff.pipeline import LayerUnpacker
    from ..services.network.networks import Networks
    from ..services.registry.client.client import RegistryClient
    from ..services.transfer.parts import Parts
    from ..stores.containers.local import LocalContainerStore
    from ..stores.content.local import LocalContentStore
    from ..stores.events.local import LocalEventStore
    from ..stores.images.local import LocalImageStore
    from ..stores.layers.local import LocalLayerStore
    from ..stores.leases.local import LocalLeaseStore
    from ..stores.metadata.database import Database
    from ..stores.snapshots.api import Snapshotter
    from ..stores.volumes.local import LocalVolumeStore

DEFAULT_ROOT = "/var/lib/orlop"
DEFAULT_STATE = "/run/orlop"
LEASE_EXPIRE_S = 24 * 3600.0
"""A transfer that was cut off leaves its lease: what it had fetched is kept this long for the next try."""

_NAMESPACE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


class Wiring:
    """The parts of one engine. Attributes are plain values; methods and properties make parts on first use."""

    def __init__(self, root: str, state: str, namespace: str, snapshotter: str, insecure_registry: bool) -> None:
        if not namespace or len(namespace) > 76 or not _NAMESPACE.issuperset(namespace) or namespace[0] in ".-_":
            raise errors.InvalidArgument(
                f"invalid namespace {namespace!r}", advice="use letters, digits, '_', '.' and '-', 76 at most"
            )
        self.root = os.path.realpath(root or DEFAULT_ROOT)
        self.root_id = root_id(self.root)
        self.state = os.path.realpath(state) if state else f"{DEFAULT_STATE}/{self.root_id}"
        self.namespace = namespace
        self.snapshotter_name = snapshotter
        self.insecure_registry = insecure_registry
        self._made: dict[str, object] = {}
        try:
            fsio.make_dirs(self.root, 0o700)
            fsio.make_dirs(self.state, 0o700)
        except OSError as error:
            raise errors.from_os(error, "open the engine") from error
        for directory in (self.root, self.state):
            _require_writable(directory)

    def in_namespace(self, namespace: str) -> Wiring:
        """The same engine, bound to another namespace (shares the database and the registry's connections)."""
        other = Wiring(self.root, self.state, namespace, self.snapshotter_name, self.insecure_registry)
        other._made = {key: self._made[key] for key in ("database", "registry") if key in self._made}
        return other

    @property
    def database(self) -> Database:
        made = self._made.get("database")
        if made is None:
            from ..stores.metadata.database import Database

            made = self._made["database"] = Database(f"{self.root}/metadata.db")
        return made  # type: ignore[return-value]

    def content(self, lease: str = "") -> LocalContentStore:
        from ..stores.content.local import LocalContentStore

        return LocalContentStore(self.database, self.root, self.namespace, lease=lease or None)

    @property
    def images(self) -> LocalImageStore:
        from ..stores.images.local import LocalImageStore

        return LocalImageStore(self.database, self.root, self.namespace)

    @property
    def containers(self) -> LocalContainerStore:
        from ..stores.containers.local import LocalContainerStore

        return LocalContainerStore(self.database, self.root, self.namespace)

    @property
    def volumes(self) -> LocalVolumeStore:
        from ..stores.volumes.local import LocalVolumeStore

        return LocalVolumeStore(self.database, self.root, self.namespace)

    @property
    def leases(self) -> LocalLeaseStore:
        from ..stores.leases.local import LocalLeaseStore

        return LocalLeaseStore(self.database, self.namespace)

    @property
    def events(self) -> LocalEventStore:
        from ..stores.events.local import LocalEventStore

        return LocalEventStore(self.database, self.root, self.namespace)

    @property
    def layers(self) -> LocalLayerStore:
        from ..stores.layers.local import LocalLayerStore

        return LocalLayerStore(self.database, self.root)

    @property
    def snapshots(self) -> Snapshotter:
        """The snapshotter that was named, or the best that works on the root's file system."""
        made = self._made.get("snapshots")
        if made is None:
            made = self._made["snapshots"] = self.snapshotter(self.snapshotter_name or self.snapshotter_choice()[0])
        return made  # type: ignore[return-value]

    def snapshotter(self, name: str) -> Snapshotter:
        """A snapshotter by name. InvalidArgument for an unknown one."""
        if name == "overlay":
            from ..stores.snapshots.overlay import OverlaySnapshotter

            return OverlaySnapshotter(self.database, self.root, self.namespace)
        if name == "native":
            from ..stores.snapshots.native import NativeSnapshotter

            return NativeSnapshotter(self.database, self.root, self.namespace)
        raise errors.InvalidArgument(f"unknown snapshotter {name!r}", advice="use overlay or native")

    def snapshotter_choice(self) -> tuple[str, str]:
        """(name, reason): found by a trial mount, remembered in the state directory (gone after a reboot)."""
        if self.snapshotter_name:
            return self.snapshotter_name, "asked for"
        note = f"{self.state}/snapshotter"
        try:
            name, _, reason = fsio.read_file(note, 4096).decode().partition("\n")
            if name in ("overlay", "native"):
                return name, reason
        except (FileNotFoundError, UnicodeDecodeError):
            pass
        from ..stores.snapshots import choose

        name, reason = choose.choose(self.root)
        fsio.write_atomic(note, f"{name}\n{reason}".encode(), durable=False)
        return name, reason

    @property
    def networks(self) -> Networks:
        """The networks of this root; their helper processes run this same Python."""
        made = self._made.get("networks")
        if made is None:
            from ..base import selfexec
            from ..services.network.networks import Networks
            from ..stores.networks.local import LocalNetworkStore

            made = self._made["networks"] = Networks(
                LocalNetworkStore(self.database),
                root_id=self.root_id,
                state_dir=self.state,
                helper_argv=selfexec.python_argv("orlop.services.network.helper:main"),
            )
        return made  # type: ignore[return-value]

    @property
    def registry(self) -> RegistryClient:
        made = self._made.get("registry")
        if made is None:
            made = self._made["registry"] = self.new_registry()
        return made  # type: ignore[return-value]

    def new_registry(self, trace: object = None) -> RegistryClient:
        """A registry client of its own (with a trace of requests, say)."""
        from ..services.registry.client.client import RegistryClient

        return RegistryClient(plain_http=self.insecure_registry, trace=trace)  # type: ignore[arg-type]

    def close(self) -> None:
        for key in ("registry", "snapshots", "database"):
            made = self._made.pop(key, None)
            if made is not None:
                made.close()  # type: ignore[attr-defined]

    # What a container's life needs on disk; the layout is docs/architecture.md's.

    def bundle(self, container_id: str) -> str:
        return f"{self.state}/tasks/{self.namespace}/{container_id}"

    def record_dir(self, container_id: str) -> str:
        return f"{self.root}/containers/{self.namespace}/{container_id}"


def _require_writable(directory: str) -> None:
    """Say why nothing can be kept in a directory before SQLite says only that it cannot open a file."""
    if os.access(directory, os.W_OK | os.X_OK):
        return
    if not os.path.isdir(directory):
        raise errors.InvalidArgument(f"open the engine: {directory} is not a directory")
    if os.statvfs(directory).f_flag & os.ST_RDONLY:
        raise errors.FailedPrecondition(
            f"open the engine: Read-only file system: {directory}", advice="mount it writable, or give another --root"
        )
    raise errors.PermissionDenied(f"open the engine: Permission denied: {directory}")


def root_id(root: str) -> str:
    """What tells one root's machine-wide names (state directory, cgroups) from another's: 12 hex digits."""
    import _sha256  # type: ignore[import-not-found,unused-ignore]

    return str(_sha256.sha256(root.encode("utf-8", "surrogateescape")).hexdigest()[:12])


_TRANSFER = "orlop.dev/transfer"
"""Label of a transfer's lease: what it moves."""


class Hold:
    """A lease for one transfer, and the parts bound to it. Use as a context manager: the lease goes at the end.

    what: what is moved, such as an image's name. When a transfer succeeds, so do the leases go that earlier tries of
    the same left when they were cut off: those whose flock nobody holds.
    """

    def __init__(self, wiring: Wiring, what: str = "", *, registry: object = None, with_registry: bool = False) -> None:
        from ..services.transfer.parts import Parts

        self._root = wiring.root
        self._what = what
        self._leases = wiring.leases
        id = f"transfer-{os.urandom(12).hex()}"
        fsio.make_dirs(f"{self._root}/locks")
        self._lock = fsio.lock(self._lock_path(id))
        self._lease = self._leases.create(id, {_TRANSFER: what} if what else None, LEASE_EXPIRE_S)
        self.parts: Parts = Parts(
            content=wiring.content(id),
            images=wiring.images,
            layers=wiring.layers,
            snapshots=wiring.snapshots,
            open_unpacker=_open_unpacker,
            hold=lambda resource: self._leases.add_resource(id, resource),
            registry=(registry or wiring.registry) if with_registry else None,
        )

    def _lock_path(self, lease: str) -> str:
        return f"{self._root}/locks/lease-{lease}"

    def __enter__(self) -> Parts:
        return self.parts

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        from ..services.transfer.parts import RESUMABLE

        try:
            # One that was cut off may be tried again soon: what it fetched waits for that. Bad input leaves nothing.
            if kind is None or not issubclass(kind, (*RESUMABLE, KeyboardInterrupt)):
                self._leases.delete(self._lease.id)
            if kind is None and self._what:
                self._drop_leftovers()
        finally:
            self._lock.release(unlink=True)

    def _drop_leftovers(self) -> None:
        for lease in self._leases.list(f"labels.{jsonio.dumps(_TRANSFER)}=={jsonio.dumps(self._what)}"):
            if lease.id != self._lease.id and not fsio.is_locked(self._lock_path(lease.id)):
                try:
                    self._leases.delete(lease.id)
                except errors.NotFound:
                    pass  # another process was quicker


def _open_unpacker(compression: str, tree_path: str, cancel: Cancel) -> LayerUnpacker:
    from ..services.diff.pipeline import LayerUnpacker

    return LayerUnpacker(compression, tree_path, cancel=cancel)
