"""Making a container: its record, its snapshot, its specification. On the path of `run`.

The record comes first (it takes the name, and keeps garbage collection from the snapshot), then the snapshot, then the
specification, for which users are looked up in the snapshot. What fails in between takes the rest back.
"""

from __future__ import annotations

import os

from ..base import errors, fsio
from ..base.kernel import cgroups
from ..base.oci import platform as platforms
from ..services.runtime import environment, mounts, options, rootview, runtimes, seccomp, spec
from ..stores.containers.api import Container as Record
from . import names

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from ..base.cancel import Cancel
    from ..base.oci.config import Healthcheck
    from ..services.runtime.options import RunOptions
    from ..services.runtime.rootview import OpenInRoot
    from ..stores.snapshots.api import Mount
    from .containers import LogOptions
    from .images import Resolved
    from .networking import NetworkOptions
    from .wiring import Wiring

_NAME_TRIES = 8


def create(
    wiring: Wiring,
    image: Resolved,
    args: Sequence[str],
    asked: RunOptions,
    network: NetworkOptions | None,
    *,
    name: str,
    log: LogOptions,
    remove: bool,
    interactive: bool,
    stop_timeout: int | None,
    labels: dict[str, str],
    cancel: Cancel,
    warn: Callable[[str], None],
) -> Record:
    """Make a container of an image; returns its record. See `Containers.create`."""
    cancel.check()
    if args:
        asked = asked.replace(args=tuple(args))
    if asked.mounts:
        asked = asked.replace(mounts=mounts.prepare_sources(asked.mounts))
    if asked.stop_signal:
        from ..base import signals

        try:
            signals.parse(asked.stop_signal)
        except errors.InvalidArgument as error:
            raise errors.UsageError(f"--stop-signal: {error.message}", advice=error.advice) from None
    cgroups.ease_moves()  # it is most often started at once
    host = environment.facts()
    _tell_platform(image, warn)
    runtime = runtimes.find(asked.runtime, wiring.state, host=host)
    id = os.urandom(32).hex()
    snapshotter = wiring.snapshots
    directory = wiring.record_dir(id)
    fsio.make_dirs(directory)
    run_config = image.config.config
    extensions: dict[str, Any] = {}
    with_mounts = bool(asked.mounts or asked.volumes_from or run_config.volumes)
    record = Record(
        id=id,
        name=name,
        image=image.image.name,
        image_digest=str(image.image.target.digest),
        runtime=asked.runtime or runtime.name,
        snapshotter=snapshotter.name,
        snapshot_key=id,
        labels={**run_config.labels, **labels},
    )
    bare = sorted(key for key, value in record.labels.items() if not value)
    try:
        record = _insert(wiring, record)
        stack = _prepare(wiring, image, id, cancel)
        if with_mounts:
            from . import mountpoints

            asked, extensions = mountpoints.settle(wiring, id, asked, run_config.volumes, stack, cancel)
        files_of = directory
        if _joins(asked):
            from . import joining

            staged = extensions.setdefault("orlop.staged", [])
            asked, extensions["orlop.joins"] = joining.settle(wiring, id, asked, staged)
            if "network" in extensions["orlop.joins"]:
                files_of = wiring.record_dir(extensions["orlop.joins"]["network"])
        if network is not None or is_network(asked.network):
            from . import networking

            wanted = network or networking.NetworkOptions()
            asked, extensions[networking.EXTENSION] = networking.settle(wiring, id, asked, wanted, run_config)
        if asked.cpu_rt_runtime:
            extensions["orlop.realtime"] = [asked.cpu_rt_runtime, asked.cpu_rt_period]
        asked = _with_files(asked, files_of)
        made = spec.generate(
            image.config,
            asked,
            host,
            view(stack),
            id=id,
            root_id=wiring.root_id,
            caller_env={},
            init=environment.find_init(named=asked.init_path) if asked.init or asked.init_path else "",
            recursive_read_only=runtime.recursive_read_only,
        )
        for warning in made.warnings:
            warn(warning)
        _write_files(directory, made.spec.get("hostname") or host.hostname, asked.network)
        filter = seccomp.compile(made.seccomp, runtime, runtimes.cache_directory(wiring.state))
        loosened = options.loosenings(asked)
        if loosened:
            record = record.replace(labels={**record.labels, options.LOOSENED_LABEL: ",".join(loosened)})
        record = record.replace(
            spec=spec.dump(made.spec, filter.section),
            extensions={
                "orlop.config": {
                    **_config(asked, image, log, remove, interactive, stop_timeout),
                    **({"bare_labels": bare} if bare else {}),
                },
                "orlop.seccomp": made.seccomp.as_dict(),
                **{name: value for name, value in extensions.items() if value},
            },
        )
        return wiring.containers.update(record)
    except BaseException:
        _take_back(wiring, record, directory, with_mounts)
        raise


def is_network(name: str) -> bool:
    """Whether it is the name of a network to be joined."""
    return name not in ("", "none", "host") and not name.startswith("container:")


def _joins(asked: RunOptions) -> bool:
    """Whether it shares a namespace with another container, or lets others share its /dev/shm."""
    modes = (asked.pid, asked.ipc, asked.uts, asked.cgroupns, asked.network)
    return asked.ipc == "shareable" or any(mode.startswith("container:") for mode in modes)


def _tell_platform(image: Resolved, warn: Callable[[str], None]) -> None:
    """Warn of an image for another platform: it is run, but may not be able to."""
    own, host = image.config.platform, platforms.host()
    if not platforms.matches(host, own):
        warn(f"the image's platform ({platforms.format(own)}) does not match this machine's ({platforms.format(host)})")


def _insert(wiring: Wiring, record: Record) -> Record:
    """Add the record, under a name of our own when it has none."""
    if record.name:
        return wiring.containers.create(record)
    for attempt in range(_NAME_TRIES):
        name = names.generate() + (f"_{record.id[:4]}" if attempt else "")
        try:
            return wiring.containers.create(record.replace(name=name))
        except errors.AlreadyExists:
            continue
    raise errors.AlreadyExists("no free container name found", advice="give one with --name")


def _prepare(wiring: Wiring, image: Resolved, id: str, cancel: Cancel) -> list[Mount]:
    """The container's own snapshot on its image's, which is unpacked first if it is not."""
    try:
        return wiring.snapshots.prepare(id, image.chain_id)
    except errors.NotFound:
        from .images import Images

        Images(wiring).unpack(image.image.name, platform=image.config.platform, cancel=cancel)
        return wiring.snapshots.prepare(id, image.chain_id)


def _take_back(wiring: Wiring, record: Record, directory: str, with_mounts: bool) -> None:
    anonymous: list[str] = []
    if with_mounts:
        from . import mountpoints

        try:
            anonymous = mountpoints.held(wiring, record.id)
        except errors.OrlopError:
            pass
    steps: tuple[Callable[[], object], ...] = (
        lambda: wiring.snapshots.remove(record.id),
        lambda: wiring.containers.delete(record.id),
        lambda: fsio.remove_tree(directory),
    )
    for undo in steps:
        try:
            undo()
        except (errors.OrlopError, OSError):
            pass  # garbage collection takes what is left; the first error is the one to tell
    if anonymous:
        try:
            mountpoints.drop(wiring, anonymous)
        except (errors.OrlopError, OSError):
            pass


def view(stack: Sequence[Mount]) -> OpenInRoot:
    """A look into a root file system that is not mounted, from the mounts that make it."""
    if not stack:
        return rootview.none
    mount = stack[-1]
    if mount.type != "overlay":
        return rootview.over_directory(mount.source)
    layers: list[str] = []
    for option in mount.options:
        key, _, value = option.partition("=")
        if key == "upperdir":
            layers.insert(0, value)
        elif key == "lowerdir":
            layers.extend(value.split(":"))
    return rootview.over_layers(layers)


_FILES = (("/etc/hostname", "hostname"), ("/etc/hosts", "hosts"), ("/etc/resolv.conf", "resolv.conf"))


def _with_files(asked: RunOptions, directory: str) -> RunOptions:
    """The options with the files that every container gets bound in, unless its caller mounts something there."""
    taken = {mount.target for mount in asked.mounts}
    added = tuple(
        mounts.Mount(type="bind", target=target, source=f"{directory}/{name}", recursive=False)
        for target, name in _FILES
        if target not in taken
    )
    return asked.replace(mounts=asked.mounts + added)


_LOOPBACK = (
    "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\n"
    "ff00::0\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n"
)


def _write_files(directory: str, hostname: str, network: str) -> None:
    if network == "host":
        hosts = _host_file("/etc/hosts")
    else:
        hosts = f"{_LOOPBACK}127.0.1.1\t{hostname}\n".encode()
    contents = {
        "hostname": f"{hostname}\n".encode(),
        "hosts": hosts,
        "resolv.conf": _host_file("/etc/resolv.conf"),
    }
    for name, data in contents.items():
        fsio.write_atomic(f"{directory}/{name}", data, 0o644, durable=False)


def _host_file(path: str) -> bytes:
    try:
        return fsio.read_file(path, 1 << 20)
    except (OSError, errors.OrlopError):
        return b""


def _health(asked: dict[str, Any], own: Healthcheck | None) -> dict[str, Any]:
    """Docker's Healthcheck object: the caller's, what it leaves open from the image's."""
    if own is None or asked.get("Test") == ["NONE"]:
        return asked
    image = {
        "Test": list(own.test),
        "Interval": own.interval,
        "Timeout": own.timeout,
        "StartPeriod": own.start_period,
        "StartInterval": own.start_interval,
        "Retries": own.retries,
    }
    return {**{key: value for key, value in image.items() if value}, **asked}


def _config(
    asked: RunOptions, image: Resolved, log: LogOptions, remove: bool, interactive: bool, stop_timeout: int | None
) -> dict[str, Any]:
    """What the caller asked for, as far as it is not in the specification: for stop, logs, inspect and ps."""
    run_config = image.config.config
    config: dict[str, Any] = {
        "network": asked.network,
        "stop_signal": asked.stop_signal or run_config.stop_signal or "SIGTERM",
        "log_driver": log.driver,
        "log_max_size": log.max_size,
        "log_max_file": log.max_file,
        "remove": remove,
        "interactive": interactive,
        "terminal": asked.terminal,
        "user": asked.user or run_config.user,
        "cmd": list(asked.args or (run_config.cmd if asked.entrypoint is None else ())),
        "entrypoint": list(run_config.entrypoint if asked.entrypoint is None else asked.entrypoint),
        "mount_points": [mount.target for mount in asked.mounts if mount.target not in dict(_FILES)],
    }
    if stop_timeout is None:
        stop_timeout = run_config.stop_timeout
    if stop_timeout is not None:
        config["stop_timeout"] = stop_timeout
    for field in ("memory", "cpus", "pids_limit", "privileged", "cgroup_parent"):
        value = getattr(asked, field)
        if value:
            config[field] = value
    if asked.health or run_config.healthcheck is not None:
        config["health"] = _health(asked.health, run_config.healthcheck)
        if run_config.shell:
            config["shell"] = list(run_config.shell)
    if asked.restart:
        config["restart"] = asked.restart
    for field in ("cap_add", "cap_drop", "security_opt"):
        value = getattr(asked, field)
        if value:
            config[field] = list(value)
    binds = [m for m in asked.mounts if m.type == "bind" and m.target not in dict(_FILES)]
    if binds:
        config["binds"] = [f"{m.source}:{m.target}" + (":ro" if m.read_only else "") for m in binds]
    return config
