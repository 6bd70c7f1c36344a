"""The OCI runtime specification of a container, from an image's configuration and a caller's options.

`generate` is a pure function of what it is handed (the facts of the machine too), so it can be tested anywhere; `dump`
prints it and checks every string. Secure by default (DESIGN §5): all namespaces its own, Docker's capabilities cut to
what we hold, no new privileges, the seccomp profile, masked and read-only paths, a limit on processes.
Source: runtime-spec 1.2, of which only what crun 1.8 and runc 1.1 understand is written. On the hot path.
"""

from __future__ import annotations

from ...base import errors, jsonio
from ...base.record import Record
from . import capabilities, environment, mounts, namespaces, process, resources, security, users
from .options import DEFAULT_SHM_BYTES
from .seccomp import BPF_ANNOTATION, Choice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol

    from ...base.oci.config import RunConfig
    from .environment import HostFacts
    from .options import ExecOptions, RunOptions
    from .rootview import OpenInRoot
    from .users import User

    class ImageLike(Protocol):
        """What is needed of an image: `base.oci.config.ImageConfig` has it."""

        @property
        def config(self) -> RunConfig: ...


VERSION = "1.0.2"
"""What the specification claims: crun 1.8 refuses anything but 1.0.x, and nothing newer is written."""

MASKED_PATHS = (
    "/proc/acpi", "/proc/asound", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
    "/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap",
    "/sys/firmware",
)  # fmt: skip
"""What tells of the host or lets it be measured; moby's list of June 2026."""

READONLY_PATHS = ("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger")

MAX_HOSTNAME = 64


class Generated(Record):
    """A specification in the making: `spec` without `linux.seccomp` (which `seccomp` chooses and `dump` puts in)."""

    spec: dict[str, Any]
    seccomp: Choice
    user: User
    warnings: tuple[str, ...] = ()


def generate(
    image: ImageLike,
    options: RunOptions,
    host: HostFacts,
    open_in_root: OpenInRoot,
    *,
    id: str,
    root_id: str,
    rootfs: str = "rootfs",
    caller_env: Mapping[str, str] | None = None,
    init: str = "",
    recursive_read_only: bool = True,
) -> Generated:
    """The specification of a container.

    image: what it is made of. options: what its caller wants; named volumes and images among the mounts, and names of
    networks and of other containers, have been turned into paths by the engine. host: `environment.facts()`.
    open_in_root: a `rootview` of its root. id, root_id: its id and the engine root's, for its cgroup and host name.
    rootfs: where the root is mounted, absolute or relative to the bundle. caller_env: where "-e NAME" looks.
    init: the host's path of the program for `--init` (`environment.find_init()`). recursive_read_only: what the OCI
    runtime's record says.
    Raises UsageError (exit 125) for what the caller got wrong, FailedPrecondition for a restriction this machine cannot
    apply, RuntimeFailed.
    """
    config = image.config
    chosen = security.parse(options.security_opt) if options.security_opt else security.DEFAULT
    warnings: list[str] = []
    user = _resolve_user(config, options, open_in_root)
    mask, lacking = capabilities.resolve(options.cap_add, options.cap_drop, options.privileged, host.bounding)
    if lacking:
        warnings.append(f"left out, as this process lacks them: {', '.join(capabilities.names(lacking))}")
    hostname = _hostname(options, host, id)
    spec: dict[str, Any] = {"ociVersion": VERSION}
    spec["process"], notes = _process(config, options, host, chosen, user, mask, hostname, caller_env or {})
    warnings += notes
    spec["root"] = {"path": rootfs, "readonly": options.read_only}
    if hostname:
        spec["hostname"] = hostname
    spec["mounts"] = _mounts(options, host, chosen, init, recursive_read_only)
    if options.annotations:
        spec["annotations"] = dict(options.annotations)
    spec["linux"], notes = _linux(options, host, chosen, id, root_id)
    warnings += notes
    if options.devices:
        vendors = [name for name in options.devices if not name.startswith("/")]
        if vendors:
            from . import cdi

            cdi.apply(spec, vendors)
    filter_choice, notes = _seccomp(options, host, chosen, mask)
    warnings += notes
    return Generated(spec, filter_choice, user, tuple(warnings))


def _hostname(options: RunOptions, host: HostFacts, id: str) -> str:
    """The host name, or "" when the UTS namespace is shared: then there is nothing to set."""
    if namespaces.is_host(options.uts, "uts") or options.uts.startswith("container:"):
        if options.hostname:
            raise errors.UsageError(f"conflicting options: --hostname and --uts {options.uts}")
        return ""
    name = options.hostname or (host.hostname if options.network == "host" else id[:12])
    if (
        len(name.encode("utf-8", "surrogateescape")) > MAX_HOSTNAME
        or name.startswith(("-", "."))
        or not _is_hostname(name)
    ):
        raise errors.UsageError(f"invalid --hostname {name!r}: at most {MAX_HOSTNAME} letters, digits, '-', '.', '_'")
    return name


_HOSTNAME = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._")


def _is_hostname(name: str) -> bool:
    return bool(name) and _HOSTNAME.issuperset(name)


def _process(
    config: RunConfig,
    options: RunOptions,
    host: HostFacts,
    chosen: security.Security,
    user: User,
    mask: int,
    hostname: str,
    caller_env: Mapping[str, str],
) -> tuple[dict[str, Any], tuple[str, ...]]:
    warnings: tuple[str, ...] = ()
    made: dict[str, Any] = {
        "terminal": options.terminal,
        "user": _user(user, process.umask(options.umask)),
        "args": process.command(config, options),
        "env": process.environment(config, options, caller_env, hostname, user),
        "cwd": process.working_directory(options.workdir, config.working_dir),
        "capabilities": _capabilities(mask, user),
        "noNewPrivileges": not options.privileged if chosen.no_new_privileges is None else chosen.no_new_privileges,
    }
    if options.ulimits:
        from . import rlimits

        made["rlimits"], warnings = rlimits.resolve(options.ulimits, host.hard_limits, host.may_raise_limits)
    score, notes = process.oom_score(options.oom_score_adj, host)
    if score is not None:
        made["oomScoreAdj"] = score
    profile = _apparmor(chosen, host)
    if profile:
        made["apparmorProfile"] = profile
    _check_selinux(chosen)
    return made, warnings + notes


def _resolve_user(config: RunConfig, options: RunOptions, open_in_root: OpenInRoot) -> User:
    try:
        return users.resolve(options.user or config.user, options.group_add, open_in_root)
    except errors.UsageError as error:
        if options.user and not error.message.startswith("--"):
            error.message = f"--user: {error.message}"
        raise


def _user(user: User, umask: int | None) -> dict[str, Any]:
    made: dict[str, Any] = {"uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)}
    if umask is not None:
        made["umask"] = umask
    return made


def _capabilities(mask: int, user: User) -> dict[str, Any]:
    """As execve would leave them: a user that is not root holds none, but may be given them by the files it runs."""
    names = capabilities.names(mask)
    held = names if user.uid == 0 else []
    return {"bounding": names, "effective": held, "permitted": held}


def _apparmor(chosen: security.Security, host: HostFacts) -> str:
    if not chosen.apparmor or chosen.apparmor == "unconfined":
        return chosen.apparmor if host.apparmor else ""
    if not host.apparmor:
        raise errors.FailedPrecondition(
            f"--security-opt apparmor={chosen.apparmor} cannot be applied: AppArmor is not enabled in this kernel"
        )
    return chosen.apparmor


def _check_selinux(chosen: security.Security) -> None:
    for label in chosen.selinux:
        if label not in ("disable", "nested"):
            raise errors.FailedPrecondition(
                f"--security-opt label={label} cannot be applied: SELinux labels are not managed",
                advice="use label=disable",
            )


def _mounts(
    options: RunOptions, host: HostFacts, chosen: security.Security, init: str, recursive_read_only: bool
) -> list[dict[str, Any]]:
    shm = "/dev/shm" if options.ipc == "host" else options.namespace_paths.get("shm", "")
    if options.shm_size < 0:
        raise errors.UsageError(f"invalid --shm-size {options.shm_size}")
    base = mounts.defaults(
        0 if options.ipc == "none" else options.shm_size or DEFAULT_SHM_BYTES,
        shm=shm,
        cgroups_writable=chosen.writable_cgroups,
        privileged=options.privileged,
    )
    if not (options.mounts or options.tmpfs or options.init):
        return base
    deep = recursive_read_only and host.recursive_read_only
    wanted = [mounts.to_spec(mount, recursive_read_only=deep) for mount in options.mounts]
    wanted += [mounts.to_spec(mounts.parse_tmpfs(text), recursive_read_only=deep) for text in options.tmpfs]
    merged = mounts.merge(base, wanted)
    if options.init:
        if not init:
            raise errors.RuntimeFailed("no init program for --init", advice="apt install tini")
        if any(mount["destination"] == "/dev" for mount in wanted):
            raise errors.UsageError("conflicting options: --init and a mount at /dev")
        read_only = mounts.Mount("bind", process.INIT_INSIDE, init, read_only=True, recursive=False)
        merged.append(mounts.to_spec(read_only, recursive_read_only=False))
    return merged


def _linux(
    options: RunOptions, host: HostFacts, chosen: security.Security, id: str, root_id: str
) -> tuple[dict[str, Any], tuple[str, ...]]:
    limits, warnings = resources.to_spec(options, host)
    made: dict[str, Any] = {
        "cgroupsPath": environment.cgroup_path(root_id, id, options.cgroup_parent),
        "namespaces": namespaces.to_spec(options),
        "resources": limits,
    }
    nodes, rules = _devices(options, chosen)
    limits["devices"] = rules
    if nodes:
        made["devices"] = nodes
    sysctls = namespaces.sysctls(options)
    if sysctls:
        made["sysctl"] = sysctls
    masked: tuple[str, ...] = MASKED_PATHS + host.throttle_paths
    readonly: tuple[str, ...] = READONLY_PATHS
    if options.privileged or chosen.system_paths_unconfined:
        masked = readonly = ()
    if options.masked_paths is not None:
        masked = options.masked_paths
    if options.readonly_paths is not None:
        readonly = options.readonly_paths
    made["maskedPaths"], made["readonlyPaths"] = list(masked), list(readonly)
    propagation = mounts.root_propagation(options.mounts)
    if propagation:
        made["rootfsPropagation"] = propagation
    return made, warnings


def _devices(options: RunOptions, chosen: security.Security) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    if not (options.devices or options.device_cgroup_rules or options.privileged):
        return [], [{"allow": False, "access": "rwm"}]  # the OCI runtime adds /dev/null and its like
    from . import devices

    nodes, rules = devices.resolve(device for device in options.devices if not _is_cdi(device))
    if options.privileged and not chosen.without_host_devices:
        own = {node["path"] for node in nodes}
        nodes += [node for node in devices.all_of_host() if node["path"] not in own]
        return nodes, [dict(devices.ALLOW_ALL)]
    rules += [devices.parse_rule(rule) for rule in options.device_cgroup_rules]
    return nodes, [dict(devices.DENY_ALL), *rules]


def _is_cdi(device: str) -> bool:
    if device.startswith("/"):
        return False
    from . import cdi

    return cdi.is_name(device)


def _seccomp(
    options: RunOptions, host: HostFacts, chosen: security.Security, mask: int
) -> tuple[Choice, tuple[str, ...]]:
    asked = chosen.seccomp
    if asked == "unconfined" or (options.privileged and not asked):
        return Choice(), ()
    if not host.seccomp:
        if asked:
            raise errors.FailedPrecondition(
                "--security-opt seccomp cannot be applied: this kernel has no seccomp filters"
            )
        return Choice(), ("no seccomp filter: this kernel has none",)
    kind = "profile" if asked else "default"
    return Choice(kind, mask, host.machine, host.kernel, asked), ()


def exec_process(
    spec: dict[str, Any],
    options: ExecOptions,
    host: HostFacts,
    open_in_root: OpenInRoot,
    caller_env: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The `process` of a further process in a container, for the OCI runtime's `exec --process`.

    spec: the container's specification as it is stored. The container's environment, directory, user, limits and
    protections hold unless options say otherwise; `privileged` gives it every capability we hold. Raises UsageError.
    """
    own = spec["process"]
    if not options.args or not options.args[0]:
        raise errors.UsageError("no command specified", advice="give a command after the container")
    made: dict[str, Any] = {name: value for name, value in own.items() if name != "capabilities"}
    made["terminal"] = options.terminal
    made["args"] = list(options.args)
    found = {}
    for entry in own.get("env", ()):
        name, _, value = entry.partition("=")
        found[name] = value
    if options.terminal and "TERM" not in found:
        found["TERM"] = "xterm"
    held = own.get("capabilities", {})
    mask = 0
    for name in held.get("bounding", ()):
        mask |= capabilities.bit(name)
    uid = own["user"]["uid"]
    if options.user:
        user = users.resolve(options.user, (), open_in_root)
        made["user"] = _user(user, own["user"].get("umask"))
        uid = user.uid
        if next(iter(found), "") == "HOME":  # nobody set it: it was the container's user's
            found["HOME"] = user.home
    process.merge(found, options.env, caller_env or {})
    made["env"] = [f"{name}={value}" for name, value in found.items()]
    if options.workdir:
        made["cwd"] = process.working_directory(options.workdir, "")
    if options.privileged:
        mask = capabilities.ALL & host.bounding
        made["noNewPrivileges"] = False
    made["capabilities"] = _capabilities(mask, users.User(uid))
    return made


def dump(spec: dict[str, Any], section: str = "", bpf: str = "") -> bytes:
    """A specification as JSON, with a seccomp section (a `seccomp.Filter`'s `section` and `bpf`) put in as it is.

    The section is text of ours already: it is spliced in, not parsed and printed again. Raises UsageError naming the
    member when a string cannot be in a specification: a NUL would end it early in the OCI runtime, and what is no
    Unicode (bytes of an argument that are not UTF-8) cannot be JSON.
    """
    if bpf:
        spec = {**spec, "annotations": {**spec.get("annotations", {}), BPF_ANNOTATION: bpf}}
        spec["linux"] = spec.pop("linux")  # it must come last, for the splice
    text = jsonio.dumps(spec)
    if section:
        if not text.endswith("}}") or next(reversed(spec)) != "linux":
            raise errors.Internal("a specification to put a seccomp section into must end with a filled linux section")
        text = f'{text[:-2]},"seccomp":{section}}}}}'
    return _encode(text, spec)


def dump_process(made: dict[str, Any]) -> bytes:
    """What `exec_process` made, as JSON, with the same checks as `dump`."""
    return _encode(jsonio.dumps(made), made)


def _encode(text: str, value: dict[str, Any]) -> bytes:
    try:
        data = text.encode("utf-8")
        clean = b"\\u0000" not in data
    except UnicodeEncodeError:
        clean = False
    if not clean:
        _name_bad_string(value, "")
    return text.encode("utf-8")


def _name_bad_string(value: Any, where: str) -> None:
    """Raise UsageError for the first string that holds a NUL or a lone surrogate."""
    if isinstance(value, str):
        if "\0" in value:
            raise errors.UsageError(f"{where} contains a NUL character: {value[:60]!r}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError:
            raise errors.UsageError(f"{where} is not UTF-8: {value[:60]!r}") from None
    elif isinstance(value, dict):
        for key, member in value.items():
            _name_bad_string(key, f"a name in {where}" if where else "a name")
            _name_bad_string(member, f"{where}.{key}" if where else key)
    elif isinstance(value, (list, tuple)):
        for number, member in enumerate(value):
            _name_bad_string(member, f"{where}[{number}]")
