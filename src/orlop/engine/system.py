"""The verbs of the engine itself: garbage collection, what this machine can do, logging in to registries."""

from __future__ import annotations

import os

from ..base import errors, fsio
from ..base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from .wiring import Wiring

SNAPSHOTTERS = ("overlay", "native")


class Swept(Record):
    """What a collection removed, or would: items as text, bytes on disk."""

    items: tuple[str, ...]
    size: int


class System:
    """`engine.system`."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring

    def gc(self, dry_run: bool = False) -> Swept:
        """Remove content, layers, snapshots and files of containers that nothing refers to any more."""
        from ..stores import gc

        wiring = self._wiring
        # Directories are left to `cleanup` below: it looks for those without a row, whatever left them.
        result = gc.collect(
            wiring.database,
            wiring.root,
            remove_snapshot_files=_leave,
            remove_layer_files=_leave,
            dry_run=dry_run,
        )
        items = [*result.items, *self._records(dry_run)]
        if not dry_run:
            for name in SNAPSHOTTERS:
                if os.path.isdir(f"{wiring.root}/snapshots/{name}"):
                    wiring.snapshotter(name).cleanup()
            wiring.layers.cleanup()
            self._remove_cgroups()
            if os.path.exists(f"{wiring.state}/network.lock"):  # networks were used since the machine started
                from . import networking

                networking.reconcile(wiring)
        return Swept(items=tuple(items), size=result.size)

    def stop_helpers(self) -> None:
        """End the idle helper process that starts monitors, if there is one; it comes back when it is needed."""
        from . import starting

        starting.spawner(self._wiring).stop()

    def _remove_cgroups(self) -> None:
        """Remove the parent cgroup of this root's containers, when there are none."""
        from ..base.kernel import cgroups
        from ..services.runtime import environment

        for path in (f"{environment.CGROUP_PARENT}/{self._wiring.root_id}", environment.CGROUP_PARENT):
            for directory in cgroups.at(path).directories():
                try:
                    os.rmdir(directory)
                except OSError:
                    pass  # a container of ours or of another root is in it

    def _records(self, dry_run: bool) -> list[str]:
        """Directories of containers that are no more (a removal or a creation that was cut off)."""
        top = f"{self._wiring.root}/containers"
        gone = []
        try:
            namespaces = os.listdir(top)
        except FileNotFoundError:
            return []
        for namespace in namespaces:
            store = self._wiring.in_namespace(namespace).containers
            for id in os.listdir(f"{top}/{namespace}"):
                directory = f"{top}/{namespace}/{id}"
                try:
                    store.get(id)
                    continue
                except errors.NotFound:
                    pass
                if _is_new(directory):
                    continue  # one that is being created
                gone.append(f"files of container {id[:12]}")
                if not dry_run:
                    fsio.remove_tree(directory)
        return gone

    def why(self, what: str) -> Sequence[str]:
        """Why a digest, snapshot or layer is kept: from a root down to it, a line a step. NotFound for nothing kept."""
        from ..stores import gc

        return gc.why(self._wiring.database, self._wiring.namespace, what)

    def login(self, server: str, username: str, password: str) -> str:
        """Check credentials against a registry and keep them; returns a warning to show, or ""."""
        from ..services.registry.client import login

        return login.login(self._wiring.registry, server, username, password)

    def logout(self, server: str) -> str:
        """Forget a registry's credentials; returns what was done, as a sentence."""
        from ..services.registry.client import login

        return login.logout(server)

    def info(self) -> dict[str, Any]:
        """What this engine and machine can do: Docker's members where they fit, and why things were chosen."""
        from .. import __version__
        from ..services.runtime import environment, runtimes

        wiring = self._wiring
        host = environment.facts()
        snapshotter, reason = wiring.snapshotter_choice()
        found: dict[str, str] = {}
        for name in ("crun", "runc"):
            try:
                runtime = runtimes.find(name, wiring.state, host=host)
            except errors.OrlopError:
                continue
            found[name] = runtime.version
        try:
            chosen = runtimes.find("", wiring.state, host=host)
            default, hidden = chosen.name, chosen.hide_unified
        except errors.RuntimeFailed:
            default, hidden = "", False
        from .containers import Containers

        states = [container.state().status for container in Containers(wiring).list(all=True)]
        system = os.uname()
        warnings = []
        if not found:
            warnings.append("no OCI runtime is installed: apt install crun")
        if not host.seccomp:
            warnings.append("the kernel has no seccomp filters: containers run without")
        if not host.apparmor and not host.selinux:
            warnings.append("neither AppArmor nor SELinux is enabled")
        if snapshotter == "native":
            warnings.append(f"every container gets a full copy of its image: {reason}")
        if not host.may_raise_limits:
            warnings.append("this process lacks CAP_SYS_RESOURCE: limits cannot be raised above its own")
        return {
            "ID": wiring.root_id,
            "Name": system.nodename,
            "ServerVersion": __version__,
            "Namespace": wiring.namespace,
            "Containers": len(states),
            "ContainersRunning": states.count("running"),
            "ContainersPaused": states.count("paused"),
            "ContainersStopped": len(states) - states.count("running") - states.count("paused"),
            "Images": len(wiring.images.list()),
            "Driver": snapshotter,
            "DriverReason": reason,
            "OrlopRootDir": wiring.root,
            "OrlopStateDir": wiring.state,
            "CgroupVersion": {"v1": "1", "hybrid": "1 (hybrid)", "v2": "2"}.get(host.cgroup_mode, host.cgroup_mode),
            "CgroupControllers": list(host.controllers),
            "Runtimes": found,
            "DefaultRuntime": default,
            "UnifiedHidden": hidden,
            "SecurityOptions": [
                *(["name=seccomp,profile=builtin"] if host.seccomp else []),
                *(["name=apparmor"] if host.apparmor else []),
                *(["name=selinux"] if host.selinux else []),
                "name=no-new-privileges",
            ],
            "KernelVersion": system.release,
            "OSType": "linux",
            "Architecture": system.machine,
            "NCPU": host.cpus,
            "MemTotal": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "JournalMode": wiring.database.journal_mode,
            "Warnings": warnings,
        }


def _is_new(directory: str) -> bool:
    """Whether a directory was changed within the last minute: its container's row may be about to come."""
    import time

    try:
        return time.time() - os.stat(directory).st_mtime < 60
    except FileNotFoundError:
        return True


def _leave(*_what: object) -> None:
    """Remove nothing now."""
