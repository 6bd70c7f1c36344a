"""Starting a container: its bundle, its monitor, its first process. On the path of `run`."""

from __future__ import annotations

import os
import sys

from ..base import errors, fsio, jsonio
from ..services.runtime import environment, runtimes, seccomp, spec, tasks
from ..services.shim.spawner import Spawner

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..base.cancel import Cancel
    from ..services.runtime.tasks import Attachment
    from .containers import Container
    from .wiring import Wiring


def spawner(wiring: Wiring) -> Spawner:
    """The spawner of this engine's state directory."""
    return Spawner(wiring.state, (sys.executable, "-I", "-S", "-E"))


def start(
    wiring: Wiring, container: Container, *, attach: bool, size: tuple[int, int] | None, cancel: Cancel
) -> Attachment | None:
    """Start a container that does not run; the caller holds its lock. size: (columns, rows) of its terminal, if any.

    Returns, with attach, the stream of its output, joined before its first byte. What fails leaves no task behind.
    """
    record, bundle = container.record, container.bundle
    spawned_by = spawner(wiring)
    tasks.clear(bundle, spawned_by, cancel=cancel)
    host = environment.facts()
    runtime = runtimes.find(record.runtime, wiring.state, host=host)
    cache = runtimes.cache_directory(wiring.state)
    filter = _filter(record.extensions.get("orlop.seccomp"), runtime, cache)
    config = record.extensions.get("orlop.config", {})
    stored = record.spec
    if "orlop.joins" in record.extensions:
        from . import joining

        stored = joining.fill(wiring, record, stored)
    fsio.make_dirs(f"{bundle}/rootfs")
    staged = "orlop.staged" in record.extensions
    _write(f"{bundle}/config.json", _config_json(stored, filter))
    _write(f"{bundle}/monitor.json", jsonio.dump_bytes(_monitor_json(wiring, container, runtime, config)))
    if "restart" in config:
        from ..services.shim import restart
        from . import boot

        restart.write(bundle, boot.policy(config))
    mounts = wiring.snapshotter(record.snapshotter).mounts(record.snapshot_key)
    if "orlop.realtime" in record.extensions:
        from ..services.runtime import realtime

        realtime.allot(jsonio.loads(record.spec)["linux"]["cgroupsPath"], *record.extensions["orlop.realtime"])
    if staged:
        from . import staging

        staging.stage(wiring, record)
    networked = "orlop.network" in record.extensions
    try:
        if networked:
            from . import networking

            hostname = jsonio.loads(stored).get("hostname", "")
            networking.join(wiring, record, hostname, container.record_dir, cancel)
        task = tasks.create(spawned_by, bundle, mounts, terminal=container.terminal, cancel=cancel)
        with task:
            seccomp.harvest(filter, cache, f"{runtime.state_root(wiring.state)}/{record.id}")
            attachment = None
            if attach:
                attachment = task.attach(stdin=bool(config.get("interactive")), owner=True, size=size)
            elif size is not None and container.terminal:
                task.resize(*size)
            try:
                task.start(cancel=cancel)
            except BaseException:
                if attachment is not None:
                    attachment.close()
                raise
    except BaseException as error:
        tasks.clear(bundle, spawned_by, kill=True)
        if staged:
            staging.unstage(wiring, record)
        if networked:
            networking.leave(wiring, record, forget=False)
        if isinstance(error, (errors.CommandNotFound, errors.CommandNotExecutable)):
            name_command(error, jsonio.loads(record.spec)["process"]["args"][0])
        raise
    return attachment


def name_command(error: errors.OrlopError, command: str) -> None:
    """Have an OCI runtime's complaint name the command, which some of them leave out."""
    if command not in error.message:
        error.message = f"cannot execute {command!r}: {error.message}"


def _write(path: str, data: bytes) -> None:
    """A file of the bundle, which nobody reads before the monitor is asked for: needs neither rename nor fsync."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        fsio.write_all(fd, data)
    finally:
        os.close(fd)


def _filter(choice: Any, runtime: runtimes.Runtime, cache: str) -> seccomp.Filter:
    """The system-call filter of a stored container, compiled if it can be."""
    if not isinstance(choice, dict):
        return seccomp.NONE
    fields = {**choice, "kernel": tuple(choice.get("kernel", (0, 0)))}
    return seccomp.compile(seccomp.Choice(**fields), runtime, cache)


def _config_json(stored: bytes, filter: seccomp.Filter) -> bytes:
    """The stored specification, with a compiled filter beside its seccomp section where there is one."""
    if not filter.bpf:
        return stored
    made = jsonio.loads(stored)
    made["linux"].pop("seccomp", None)
    return spec.dump(made, filter.section, filter.bpf)


def _monitor_json(
    wiring: Wiring, container: Container, runtime: runtimes.Runtime, config: dict[str, Any]
) -> dict[str, Any]:
    """What the monitor needs to know (docs/architecture.md, "On disk")."""
    said: dict[str, Any] = {
        "version": 1,
        "namespace": wiring.namespace,
        "id": container.id,
        "runtime": runtime.argv(wiring.state),
        "runtime_name": runtime.name,
        "hide_unified": runtime.hide_unified,
        "log": {
            "driver": config.get("log_driver", "json-file"),
            "path": container.log_path,
            "max_size": config.get("log_max_size", 0),
            "max_file": config.get("log_max_file", 1),
        },
        "record": container.record_dir,
        "open_stdin": bool(config.get("interactive")),
    }
    if "health" in config:
        from ..services.shim import health

        check = health.from_docker(config["health"], tuple(config.get("shell") or ("/bin/sh", "-c")))
        if check is not None:
            process = health.process_of(jsonio.loads(container.record.spec), check)
            said["health"] = {"check": check.as_dict(), "process": process}
    if config.get("remove") or any(name in container.record.extensions for name in ("orlop.staged", "orlop.network")):
        from ..base import selfexec

        said["on_exit"] = [
            *selfexec.python_argv("orlop.doors.cli.main:main"),
            "--root",
            wiring.root,
            "--state",
            wiring.state,
            "--namespace",
            wiring.namespace,
            "_clean",
            container.id,
        ]
    return said
