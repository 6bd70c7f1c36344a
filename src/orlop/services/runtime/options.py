"""What a caller may ask of a new container or of a new process in one: the flags of `run`, `create` and `exec`.

Plain data; `spec.generate` gives it meaning. Strings stay as people write them where Docker's API has strings, so that
every front door can fill this in without knowing more; the parsers are in `mounts`, `devices`, `rlimits`, `security`.
On the hot path.
"""

from __future__ import annotations

from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .mounts import Mount

LOOSENED_LABEL = "orlop.dev/loosened"
"""Label under which the engine keeps `loosenings(options)`, joined by commas, for the audit."""

DEFAULT_PIDS_LIMIT = 4096
"""Processes and threads a container may have unless told otherwise: stops fork bombs, lets big JVMs run."""

DEFAULT_SHM_BYTES = 64 << 20


class RunOptions(Record):
    """Everything optional about a container. The defaults are the secure ones.

    args: the command; () takes the image's. entrypoint: None takes the image's, () resets it (then the image's command
        is not used either, as with Docker).
    env: "NAME=value", or "NAME" to hand on the caller's value (to unset it where the caller has none).
    workdir, user ("user[:group]", names or numbers): "" takes the image's.
    network: "host" shares the host's; anything else gets a namespace of its own, or the one at `network_namespace`, a
        path that whoever sets up networks hands in.
    pid, ipc, uts, cgroupns, userns: "" or "private", "host", or "container:ID" when the engine has put the path of that
        container's namespace into namespace_paths["pid"], … (and that of its /dev/shm into namespace_paths["shm"]).
        ipc also "shareable" (namespace_paths["shm"] is then a file system others can bind) and "none" (no /dev/shm).
    security_opt: as Docker's; a seccomp profile's JSON stands in it inline (`security.inline_files` does that).
    tmpfs: "DIR[:options]". mounts: parsed `-v` and `--mount`. volumes_from: "CONTAINER[:ro|rw]", for the engine.
    devices: "HOST[:CONTAINER[:rwm]]", or a CDI name "vendor/class=device".
    memory, memory_swap, memory_reservation, shm_size: bytes; memory_swap is memory plus swap, -1 unlimited.
    cpus: number of CPUs; cpu_period, cpu_quota, cpu_rt_period, cpu_rt_runtime: microseconds.
    blkio_weight_device: "DEVICE:WEIGHT"; device_read_bps and the like: "DEVICE:RATE" (`blkio`).
    pids_limit: None for the default, -1 or 0 unlimited.
    ulimits: "NAME=SOFT[:HARD]". sysctls, labels, annotations: key → value.
    umask: octal text. oom_score_adj: -1000 to 1000.
    masked_paths, readonly_paths: None for the defaults.
    runtime: name or path of the OCI runtime. cgroup_parent: "" for Orlop's own.
    init_path: the program for `init`, "" to look for one.
    stop_signal, labels, terminal: kept for who stops, lists and attaches; only `terminal` enters the specification.
    health: Docker's Healthcheck object; restart: its RestartPolicy object. Kept for who carries them out.
    """

    args: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    group_add: tuple[str, ...] = ()
    umask: str = ""
    hostname: str = ""
    domainname: str = ""
    terminal: bool = False
    init: bool = False
    init_path: str = ""
    read_only: bool = False
    network: str = "none"
    network_namespace: str | None = None
    pid: str = ""
    ipc: str = ""
    uts: str = ""
    cgroupns: str = ""
    userns: str = ""
    namespace_paths: dict[str, str] = {}
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    privileged: bool = False
    security_opt: tuple[str, ...] = ()
    masked_paths: tuple[str, ...] | None = None
    readonly_paths: tuple[str, ...] | None = None
    mounts: tuple[Mount, ...] = ()
    tmpfs: tuple[str, ...] = ()
    volumes_from: tuple[str, ...] = ()
    shm_size: int = 0
    devices: tuple[str, ...] = ()
    device_cgroup_rules: tuple[str, ...] = ()
    memory: int = 0
    memory_swap: int = 0
    memory_reservation: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    cpus: float = 0.0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    cpu_rt_period: int = 0
    cpu_rt_runtime: int = 0
    blkio_weight: int = 0
    blkio_weight_device: tuple[str, ...] = ()
    device_read_bps: tuple[str, ...] = ()
    device_read_iops: tuple[str, ...] = ()
    device_write_bps: tuple[str, ...] = ()
    device_write_iops: tuple[str, ...] = ()
    pids_limit: int | None = None
    ulimits: tuple[str, ...] = ()
    oom_score_adj: int | None = None
    sysctls: dict[str, str] = {}
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    stop_signal: str = ""
    runtime: str = ""
    cgroup_parent: str = ""
    health: dict[str, Any] = {}
    restart: dict[str, Any] = {}


class ExecOptions(Record):
    """A further process in a running container; the fields mean what `RunOptions`' do, "" and () the container's."""

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    terminal: bool = False
    privileged: bool = False


def loosenings(options: RunOptions) -> tuple[str, ...]:
    """Every way in which these options give up a default protection, as the flags that did it, in a fixed order.

    For the label LOOSENED_LABEL; `()` when nothing is loosened.
    """
    from .security import parse as parse_security

    found = []
    if options.privileged:
        found.append("privileged")
    if options.network == "host" or options.network.startswith("container:"):
        found.append(f"network={options.network}")
    for kind in ("pid", "ipc", "uts", "cgroupns"):
        mode = getattr(options, kind)
        if mode == "host" or mode.startswith("container:"):
            found.append(f"{kind}={mode}")
    found += [f"cap-add={name}" for name in options.cap_add]
    chosen = parse_security(options.security_opt)
    if chosen.seccomp == "unconfined":
        found.append("security-opt=seccomp=unconfined")
    elif chosen.seccomp:
        found.append("security-opt=seccomp=custom")
    if chosen.no_new_privileges is False:
        found.append("security-opt=no-new-privileges=false")
    if chosen.apparmor == "unconfined":
        found.append("security-opt=apparmor=unconfined")
    if chosen.system_paths_unconfined:
        found.append("security-opt=systempaths=unconfined")
    if chosen.writable_cgroups:
        found.append("security-opt=writable-cgroups")
    if options.masked_paths is not None:
        found.append("masked-paths")
    if options.readonly_paths is not None:
        found.append("readonly-paths")
    if options.pids_limit is not None and options.pids_limit <= 0:
        found.append("pids-limit=-1")
    found += [f"device={device}" for device in options.devices]
    found += [f"device-cgroup-rule={rule}" for rule in options.device_cgroup_rules]
    if options.oom_kill_disable:
        found.append("oom-kill-disable")
    for mount in options.mounts:
        if mount.type == "bind" and mount.propagation in ("shared", "rshared"):
            found.append(f"volume={mount.target}:{mount.propagation}")
        if mount.source.endswith(("/docker.sock", "/containerd.sock", "/podman.sock", "/crio.sock")):
            found.append(f"volume={mount.source}")
    found += [f"annotation={name}" for name in options.annotations if name.startswith("run.oci.")]
    return tuple(found)
