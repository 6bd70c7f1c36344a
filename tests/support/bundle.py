"""OCI bundles for tests: a root file system of busybox and a minimal valid config.json."""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path
from typing import Any

BUSYBOX = "/usr/bin/busybox"
_LINKS = (
    "sh",
    "cat",
    "echo",
    "true",
    "false",
    "sleep",
    "dd",
    "id",
    "kill",
    "ls",
    "seq",
    "head",
    "env",
    "mkfifo",
    "tail",
)


def rootfs(path: Path) -> Path:
    """Make a root file system at `path`: busybox with the usual names, /tmp, and two files that cannot be executed."""
    for name in ("bin", "dev", "proc", "sys", "tmp", "etc"):
        (path / name).mkdir(parents=True, exist_ok=True)
    (path / "bin/busybox").write_bytes(Path(BUSYBOX).read_bytes())
    (path / "bin/busybox").chmod(0o755)
    for name in _LINKS:
        (path / "bin" / name).symlink_to("busybox")
    (path / "bin/plain").write_text("no program\n")
    (path / "bin/plain").chmod(0o644)
    (path / "bin/garbage").write_bytes(b"\x00\x01garbage")
    (path / "bin/garbage").chmod(0o755)
    return path


def bounding_set() -> list[str]:
    """Our own bounding set by name: what a runtime may give to a container at all."""
    from orlop.base.kernel import capabilities

    return list(capabilities.own().bounding)


def process(args: list[str], **changes: Any) -> dict[str, Any]:
    """An OCI process object."""
    wanted = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_KILL", "CAP_SETGID", "CAP_SETUID"]
    caps = [name for name in wanted if name in bounding_set()]
    return {
        "terminal": False,
        "user": {"uid": 0, "gid": 0},
        "args": args,
        "env": ["PATH=/bin", "HOME=/"],
        "cwd": "/",
        "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
        "noNewPrivileges": True,
        **changes,
    }


def spec(args: list[str], *, container_id: str, root: str = "rootfs", **process_changes: Any) -> dict[str, Any]:
    """A minimal runtime configuration that crun and runc accept on this machine."""
    return {
        "ociVersion": "1.0.2",
        "process": process(args, **process_changes),
        "root": {"path": root, "readonly": False},
        "hostname": "test",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
        ],
        "linux": {
            "cgroupsPath": f"/orlop-test-{container_id}",
            "namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts", "network")],
            "resources": {"pids": {"limit": 256}},
        },
    }


def needs_hidden_cgroup2(runtime: str) -> bool:
    """Whether this runtime refuses this machine's mixed cgroups (Debian's crun does)."""
    unified = Path("/sys/fs/cgroup/unified/cgroup.controllers")
    return runtime == "crun" and unified.exists() and bool(unified.read_text().split())


def make(
    state: Path,
    args: list[str],
    *,
    runtime: str = "crun",
    container_id: str | None = None,
    config: dict[str, Any] | None = None,
    argv: list[str] | None = None,
    **monitor: Any,
) -> Path:
    """Make STATE/tasks/default/ID with config.json and monitor.json, and its record directory; returns the bundle."""
    container_id = container_id or f"t{uuid.uuid4().hex[:12]}"
    bundle = state / "tasks/default" / container_id
    (bundle / "rootfs").mkdir(parents=True)
    record = state / "record" / container_id
    record.mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps(config or spec(args, container_id=container_id)))
    said = {
        "version": 1,
        "namespace": "default",
        "id": container_id,
        "runtime": argv or [_find(runtime), "--root", f"{state}/{runtime}"],
        "runtime_name": runtime,
        "hide_unified": needs_hidden_cgroup2(runtime),
        "log": {"driver": "json-file", "path": f"{record}/{container_id}-json.log", "max_size": 0, "max_file": 1},
        "record": str(record),
        "open_stdin": False,
        "on_exit": [],
        **monitor,
    }
    (bundle / "monitor.json").write_text(json.dumps(said))
    return bundle


def _find(name: str) -> str:
    for directory in ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"):
        if os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    raise FileNotFoundError(f"{name} is not installed")
