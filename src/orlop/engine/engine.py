"""`Engine`: everything Orlop does, in this process, with no daemon.

On the path of `run`: each noun's verbs are loaded when they are first asked for.
"""

from __future__ import annotations

from .wiring import Wiring

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from ..services.network.networks import Networks
    from .containers import Containers
    from .images import Images
    from .system import System
    from .volumes import Volumes


class Engine:
    """An open engine, bound to one root, one state directory and one namespace. Thread-safe.

    Make it with `Engine.open`; close it (or use it as a context manager) when done. Containers go on running.
    """

    def __init__(self, wiring: Wiring) -> None:
        self.wiring = wiring
        self._images: Images | None = None
        self._containers: Containers | None = None
        self._system: System | None = None

    @classmethod
    def open(
        cls,
        root: str = "",
        state: str = "",
        namespace: str = "default",
        snapshotter: str = "",
        insecure_registry: bool = False,
    ) -> Engine:
        """Open the engine on a root directory, which is made when it is missing.

        root: where everything that lasts is stored (default /var/lib/orlop). state: where what a reboot ends is kept
        (default /run/orlop/<root's id>). snapshotter: "overlay", "native", or "" for the best that works here.
        insecure_registry: allow plain HTTP and unverified TLS to registries that are not on loopback.
        Raises PermissionDenied, InvalidArgument, DataLoss (a damaged database).
        """
        return cls(Wiring(root, state, namespace, snapshotter, insecure_registry))

    def in_namespace(self, namespace: str) -> Engine:
        """The same engine, bound to another namespace."""
        return Engine(self.wiring.in_namespace(namespace))

    @property
    def namespace(self) -> str:
        return self.wiring.namespace

    @property
    def images(self) -> Images:
        if self._images is None:
            from .images import Images

            self._images = Images(self.wiring)
        return self._images

    @property
    def containers(self) -> Containers:
        if self._containers is None:
            from .containers import Containers

            self._containers = Containers(self.wiring, self)
        return self._containers

    @property
    def volumes(self) -> Volumes:
        from .volumes import Volumes

        return Volumes(self.wiring)

    @property
    def networks(self) -> Networks:
        """The verbs of networks: list, create, inspect, remove, prune."""
        return self.wiring.networks

    @property
    def system(self) -> System:
        if self._system is None:
            from .system import System

            self._system = System(self.wiring)
        return self._system

    def close(self) -> None:
        self.wiring.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
