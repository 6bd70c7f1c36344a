"""Docker's JSON shapes of our things, for `inspect`: pure functions from records to members.

Kept out of the stores and verbs, so that a front door for the Engine API can share them.
"""

from __future__ import annotations

from ..base import jsonio, times
from ..base.oci import reference as references

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..services.shim.health import Health
    from ..services.shim.state import TaskState
    from ..stores.containers.api import Container
    from .images import Resolved

ZERO_TIME = "0001-01-01T00:00:00Z"


def time_text(ns: int) -> str:
    """RFC 3339 with nanoseconds, in UTC; Docker's zero time for 0."""
    return times.rfc3339(ns) if ns else ZERO_TIME


def familiar(name: str) -> str:
    """A stored image name as Docker prints it ("alpine:latest")."""
    from ..base import errors

    try:
        return references.parse_normalized(name).familiar()
    except errors.InvalidArgument:
        return name


def labels(record: Container) -> dict[str, str]:
    """A container's labels as its owner gave them: our own left out, and those without a value, which stores drop."""
    found = {key: value for key, value in record.labels.items() if not key.startswith("orlop.dev/")}
    for key in record.extensions.get("orlop.config", {}).get("bare_labels", ()):
        found.setdefault(key, "")
    return dict(sorted(found.items()))


def image(resolved: Resolved, names: list[str], size: int) -> dict[str, Any]:
    """`orlop image inspect`, one element."""
    config, run = resolved.config, resolved.config.config
    digest = resolved.image.target.digest
    repositories = {references.parse_normalized(name).familiar_name for name in names if not name.startswith("sha256:")}
    return {
        "Id": str(digest),
        "RepoTags": [familiar(name) for name in names if not name.startswith("sha256:") and "@" not in name],
        "RepoDigests": sorted(f"{repository}@{digest}" for repository in repositories),
        "Parent": "",
        "Comment": config.history[-1].comment if config.history else "",
        "Created": config.created or ZERO_TIME,
        "Author": config.author,
        "Config": {
            "User": run.user,
            "ExposedPorts": {port: {} for port in run.exposed_ports},
            "Env": list(run.env),
            "Entrypoint": list(run.entrypoint) or None,
            "Cmd": list(run.cmd) or None,
            "Volumes": {path: {} for path in run.volumes} or None,
            "WorkingDir": run.working_dir,
            "Labels": dict(run.labels) or None,
            "StopSignal": run.stop_signal,
            "Shell": list(run.shell) or None,
        },
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "OsVersion": config.os_version,
        "Size": size,
        "RootFS": {"Type": "layers", "Layers": [str(d) for d in config.diff_ids]},
        "Metadata": {"LastTagTime": time_text(resolved.image.updated_ns)},
        "Descriptor": {
            "mediaType": resolved.image.target.media_type,
            "digest": str(digest),
            "size": resolved.image.target.size,
        },
        "ConfigDigest": str(resolved.manifest.config.digest),
        "ManifestDigest": str(resolved.descriptor.digest),
    }


def _mount(kept: dict[str, Any]) -> dict[str, Any]:
    """A mount that the engine keeps in a container's record, as Docker's MountPoint."""
    made = {
        "Type": kept["type"],
        "Source": kept.get("path", kept["source"]),
        "Destination": kept["target"],
        "Mode": "ro" if kept["read_only"] else "",
        "RW": not kept["read_only"] and kept["type"] != "image",
        "Propagation": kept["propagation"] if kept["type"] == "bind" else "",
    }
    if kept["type"] == "volume":
        made.update(Name=kept["name"], Driver="local")
    return made


def container(record: Container, state: TaskState, paths: dict[str, str], health: Health | None) -> dict[str, Any]:
    """`orlop container inspect`, one element. paths: "LogPath", "HostnamePath", … as Docker names them.

    health: what its checks say, None when it has none.
    """
    from ..services.runtime.options import LOOSENED_LABEL  # not on the path of `ps`

    spec = jsonio.loads(record.spec) if record.spec else {}
    process, linux = spec.get("process", {}), spec.get("linux", {})
    args = process.get("args") or [""]
    extra = record.extensions
    asked = extra.get("orlop.config", {})
    running = state.status in ("running", "paused")
    policy = asked.get("restart") or {"Name": "no", "MaximumRetryCount": 0}
    return {
        "Id": record.id,
        "Created": time_text(record.created_ns),
        "Path": args[0],
        "Args": args[1:],
        "State": {
            "Status": state.status,
            "Running": running or state.status == "restarting",
            "Paused": state.status == "paused",
            "Restarting": state.status == "restarting",
            "OOMKilled": bool(state.oom_killed),
            "Dead": False,
            "Pid": state.pid if running else 0,
            "ExitCode": state.exit_status or 0,
            "Error": "",
            "StartedAt": time_text(state.started_ns),
            "FinishedAt": time_text(state.exited_ns),
            "MonitorAlive": state.monitor_alive,
            **({"Health": _health(health)} if health is not None else {}),
        },
        "Image": record.image_digest,
        **paths,
        "Name": f"/{record.name}",
        "RestartCount": state.restarts,
        "Driver": record.snapshotter,
        "Platform": "linux",
        "HostConfig": {
            "Binds": asked.get("binds") or None,
            "NetworkMode": asked.get("network", "none"),
            "AutoRemove": bool(asked.get("remove")),
            "Privileged": bool(asked.get("privileged")),
            "ReadonlyRootfs": bool(spec.get("root", {}).get("readonly")),
            "CapAdd": asked.get("cap_add") or None,
            "CapDrop": asked.get("cap_drop") or None,
            "SecurityOpt": asked.get("security_opt") or None,
            "Memory": asked.get("memory", 0),
            "NanoCpus": int(float(asked.get("cpus", 0)) * 1_000_000_000),
            "PidsLimit": asked.get("pids_limit"),
            "Runtime": record.runtime,
            "CgroupParent": asked.get("cgroup_parent", ""),
            "LogConfig": {"Type": asked.get("log_driver", "json-file"), "Config": asked.get("log_options", {})},
            "RestartPolicy": policy,
            "MaskedPaths": linux.get("maskedPaths", []),
            "ReadonlyPaths": linux.get("readonlyPaths", []),
        },
        "Mounts": [
            {
                "Type": "tmpfs" if mount.get("type") == "tmpfs" else "bind",
                "Source": mount.get("source", ""),
                "Destination": mount["destination"],
                "Mode": ",".join(mount.get("options", [])),
                "RW": "ro" not in mount.get("options", []),
                "Propagation": next(
                    (o for o in mount.get("options", []) if o.endswith(("private", "shared", "slave"))), ""
                ),
            }
            for mount in spec.get("mounts", [])
            if mount["destination"] in asked.get("mount_points", ())
            and mount["destination"] not in {kept["target"] for kept in extra.get("orlop.mounts", ())}
        ]
        + [_mount(kept) for kept in extra.get("orlop.mounts", ())],
        "Config": {
            "Hostname": spec.get("hostname", ""),
            "Domainname": spec.get("domainname", ""),
            "User": asked.get("user", ""),
            "AttachStdin": False,
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": bool(process.get("terminal")),
            "OpenStdin": bool(asked.get("interactive")),
            "Env": process.get("env", []),
            "Cmd": asked.get("cmd") or None,
            "Entrypoint": asked.get("entrypoint") or None,
            "Image": familiar(record.image),
            "WorkingDir": process.get("cwd", ""),
            "Labels": labels(record),
            "StopSignal": asked.get("stop_signal", "SIGTERM"),
            "StopTimeout": asked.get("stop_timeout"),
            **({"Healthcheck": asked["health"]} if asked.get("health") else {}),
        },
        "NetworkSettings": {"Ports": {}, "Networks": {}, "SandboxKey": ""},
        "Loosened": [t for t in record.labels.get(LOOSENED_LABEL, "").split(",") if t],
    }


def _health(found: Health) -> dict[str, Any]:
    """State.Health."""
    return {
        "Status": found.status,
        "FailingStreak": found.streak,
        "Log": [
            {
                "Start": time_text(one.start_ns),
                "End": time_text(one.end_ns),
                "ExitCode": one.exit_code,
                "Output": one.output,
            }
            for one in found.log
        ],
    }
