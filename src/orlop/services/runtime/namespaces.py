"""Which namespaces a container has of its own, which it shares, and which sysctls that lets it set.

Pure. Sources: runtime-spec config-linux.md, namespaces(7), Docker's rules for `--sysctl`. On the hot path.
"""

from __future__ import annotations

from ...base import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .options import RunOptions

_IPC_SYSCTLS = frozenset(
    "kernel.msgmax kernel.msgmnb kernel.msgmni kernel.sem kernel.shmall kernel.shmmax kernel.shmmni "
    "kernel.shm_rmid_forced".split()
)
_UTS_SYSCTLS = ("kernel.hostname", "kernel.domainname")


def is_host(mode: str, kind: str) -> bool:
    """Whether a mode ("", "private", "host", "container:ID") shares the host's namespace. Raises UsageError."""
    if mode == "host":
        return True
    known = mode in ("", "private") or (kind == "ipc" and mode in ("shareable", "none"))
    if not known and not mode.startswith("container:"):
        raise errors.UsageError(f"invalid --{kind} {mode!r}", advice="known: host, private, container:NAME")
    return False


def to_spec(options: RunOptions) -> list[dict[str, Any]]:
    """The specification's `namespaces`. What is not in it, the container shares with the host.

    Raises UsageError for an unknown mode, FailedPrecondition for a container's namespace whose path was not handed in.
    """
    for kind in ("pid", "ipc", "uts", "cgroupns", "network"):
        if getattr(options, kind) == "container:":
            raise errors.UsageError(f"invalid --{kind} 'container:': it names no container")
    if options.userns not in ("", "host"):
        raise errors.UsageError(f"invalid --userns {options.userns!r}", advice="known: host")
    found: list[dict[str, Any]] = [{"type": "mount"}]
    for kind, spec_kind, mode in (
        ("pid", "pid", options.pid),
        ("ipc", "ipc", options.ipc),
        ("uts", "uts", options.uts),
        ("cgroupns", "cgroup", options.cgroupns),
    ):
        if is_host(mode, kind):
            continue
        if mode.startswith("container:"):
            path = options.namespace_paths.get(kind)
            if not path:
                raise errors.FailedPrecondition(f"--{kind} {mode}: that container's namespace is not known")
            found.append({"type": spec_kind, "path": path})
        else:
            found.append({"type": spec_kind})
    if options.network != "host":
        if options.network_namespace:
            found.append({"type": "network", "path": options.network_namespace})
        elif options.network.startswith("container:"):
            raise errors.FailedPrecondition(f"--network {options.network}: that container's namespace is not known")
        else:
            found.append({"type": "network"})
    return found


def _is_shared(mode: str) -> bool:
    return mode == "host" or mode.startswith("container:")


def sysctls(options: RunOptions) -> dict[str, str]:
    """The specification's `sysctl`: the caller's, and the two of Docker's that let programs do without capabilities.

    Those (ports from 0 up, ping for every group) are set in a network namespace of the container's own. A sysctl that
    would change the host is refused. Raises UsageError.
    """
    found = {}
    if not _is_shared(options.network):
        found["net.ipv4.ip_unprivileged_port_start"] = "0"
        found["net.ipv4.ping_group_range"] = "0 2147483647"
    if options.domainname:
        if _is_shared(options.uts):
            raise errors.UsageError(f"conflicting options: --domainname and --uts {options.uts}")
        found["kernel.domainname"] = options.domainname
    for name, value in options.sysctls.items():
        dotted = name.replace("/", ".") if "/" in name else name
        if any(part in ("", "..") for part in name.replace("/", ".").split(".")):
            raise errors.UsageError(f"invalid --sysctl {name!r}")
        if dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
            shared = _is_shared(options.ipc)
        elif dotted.startswith("net."):
            shared = _is_shared(options.network)
        elif dotted in _UTS_SYSCTLS:
            shared = _is_shared(options.uts)
        else:
            raise errors.UsageError(f"invalid --sysctl {name}: it is not in a namespace and would change the host")
        if shared:
            raise errors.UsageError(
                f"invalid --sysctl {name}: the container shares that namespace with the host or another container"
            )
        found[dotted] = value
    return found
