"""Namespaces of other containers: `--pid`, `--ipc`, `--uts`, `--network`, `--cgroupns container:NAME`.

Names become ids when a container is created; paths of namespaces are found at each start, when the other must run.
Loaded only for containers that join others. The record keeps "orlop.joins": kind → the other's id.
"""

from __future__ import annotations

from ..base import errors, jsonio
from . import staging

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..services.runtime.options import RunOptions
    from ..stores.containers.api import Container as Record
    from .wiring import Wiring

JOINS = "orlop.joins"
_FIELDS = {"pid": "pid", "ipc": "ipc", "uts": "uts", "cgroupns": "cgroup", "network": "net"}
"""Field of RunOptions → name in /proc/PID/ns."""
_SPEC_KINDS = {"pid": "pid", "ipc": "ipc", "uts": "uts", "cgroup": "cgroupns", "network": "network"}


def settle(
    wiring: Wiring, id: str, asked: RunOptions, staged: list[dict[str, Any]]
) -> tuple[RunOptions, dict[str, str]]:
    """The options with ids for names and placeholders for paths, and kind → id of those to join.

    staged: gets the /dev/shm of a container made with --ipc shareable. Raises NotFound, FailedPrecondition, UsageError.
    """
    joins: dict[str, str] = {}
    changes: dict[str, Any] = {}
    paths: dict[str, str] = dict(asked.namespace_paths)
    for field in _FIELDS:
        mode = getattr(asked, field)
        if not mode.startswith("container:"):
            continue
        name = mode.partition(":")[2]
        if not name:
            raise errors.UsageError(f"invalid --{field} {mode!r}: it names no container")
        try:
            other = wiring.containers.resolve(name)
        except errors.NotFound:
            raise errors.NotFound(f"--{field} {mode}: no such container: {name}") from None
        joins[field] = other.id
        changes[field] = f"container:{other.id}"
        paths[field] = _placeholder(field)
        if field == "ipc":
            paths["shm"] = _shm(wiring, other, name)
        if field == "network":
            changes["network_namespace"] = _placeholder(field)
            _adopt_names(asked, other, changes)
    if asked.ipc == "shareable":
        from ..services.runtime.options import DEFAULT_SHM_BYTES

        staged.append({"kind": "shm", "size": asked.shm_size or DEFAULT_SHM_BYTES})
        paths["shm"] = staging.point(wiring, id, len(staged) - 1)
    return asked.replace(**changes, namespace_paths=paths), joins


def fill(wiring: Wiring, record: Record, stored: bytes) -> bytes:
    """The stored specification with the namespaces as they are now. FailedPrecondition when another does not run."""
    from .containers import Container

    spec = jsonio.loads(stored)
    for namespace in spec["linux"]["namespaces"]:
        field = _SPEC_KINDS.get(namespace["type"], "")
        if field not in record.extensions[JOINS] or namespace.get("path") != _placeholder(field):
            continue
        try:
            other = Container(wiring, wiring.containers.get(record.extensions[JOINS][field]))
            state = other.state()
        except errors.NotFound:
            raise errors.NotFound(f"--{field} container:{record.extensions[JOINS][field]}: it was removed") from None
        if state.status not in ("running", "paused") or not state.pid:
            raise errors.FailedPrecondition(
                f"--{field} container:{other.name}: cannot join the namespace of a container that is not running",
                advice=f"orlop start {other.name}",
            )
        namespace["path"] = f"/proc/{state.pid}/ns/{_FIELDS[field]}"
    return jsonio.dump_bytes(spec)


def _placeholder(field: str) -> str:
    return f"/orlop/joined/{field}"


def _shm(wiring: Wiring, other: Record, name: str) -> str:
    """Where the other's /dev/shm is on the host; only a shareable one is there."""
    for number, each in enumerate(other.extensions.get(staging.STAGED, ())):
        if each["kind"] == "shm":
            return staging.point(wiring, other.id, number)
    raise errors.FailedPrecondition(
        f"--ipc container:{name}: its IPC namespace is not shareable", advice=f"make {name} with --ipc shareable"
    )


def _adopt_names(asked: RunOptions, other: Record, changes: dict[str, Any]) -> None:
    if asked.hostname:
        raise errors.UsageError("conflicting options: --hostname and --network container:NAME")
    if not asked.uts:
        changes["hostname"] = jsonio.loads(other.spec).get("hostname", "") if other.spec else ""
