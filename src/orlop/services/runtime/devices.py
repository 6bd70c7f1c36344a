"""Device nodes and the device rules of a container (`--device`, `--device-cgroup-rule`, `--privileged`).

Looks at the host's device nodes through a `stat` function that is handed in. Sources: runtime-spec config-linux.md,
cgroup-v1/devices.rst. On the hot path only when a device is asked for.
"""

from __future__ import annotations

import os
import stat as _stat

from ...base import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    Stat = Callable[[str], os.stat_result]

DENY_ALL = {"allow": False, "access": "rwm"}
ALLOW_ALL = {"allow": True, "access": "rwm"}


def _is_access(text: str) -> bool:
    return bool(text) and len(text) <= 3 and set(text) <= set("rwm") and len(set(text)) == len(text)


def parse(text: str) -> tuple[str, str, str]:
    """`HOST[:CONTAINER][:ACCESS]` → (path on the host, path inside, access). Raises UsageError."""
    parts = text.split(":")
    host = parts[0]
    inside, access = host, "rwm"
    if len(parts) == 2:
        if _is_access(parts[1]):
            access = parts[1]
        else:
            inside = parts[1]
    elif len(parts) == 3:
        inside, access = parts[1], parts[2]
    if len(parts) > 3 or not host.startswith("/") or not inside.startswith("/") or not _is_access(access):
        raise errors.UsageError(f"invalid --device {text!r}: the form is /HOST/PATH[:/CONTAINER/PATH][:rwm]")
    return os.path.normpath(host), os.path.normpath(inside), access


def parse_rule(text: str) -> dict[str, Any]:
    """A device rule "c 42:* rmw" → an entry of `resources.devices`. Raises UsageError."""
    parts = text.split()
    if len(parts) == 3 and parts[0] in ("a", "b", "c") and _is_access(parts[2]):
        major, colon, minor = parts[1].partition(":")
        if colon and all(n == "*" or (n.isdecimal() and n.isascii()) for n in (major, minor)):
            rule: dict[str, Any] = {"allow": True, "type": parts[0], "access": parts[2]}
            if major != "*":
                rule["major"] = int(major)
            if minor != "*":
                rule["minor"] = int(minor)
            return rule
    raise errors.UsageError(
        f"invalid --device-cgroup-rule {text!r}: the form is 'TYPE MAJOR:MINOR rwm', such as 'c 10:* rw'"
    )


def resolve(wanted: Iterable[str], stat: Stat = os.stat) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The specification's `devices` and `resources.devices` for `--device` flags.

    A directory stands for all devices below it. Raises UsageError for what is no device.
    """
    nodes: list[dict[str, Any]] = []
    rules: list[dict[str, Any]] = []
    for text in wanted:
        host, inside, access = parse(text)
        try:
            status = stat(host)
        except OSError as error:
            raise errors.UsageError(
                f"--device: error gathering device information for {host!r}: {error.strerror}"
            ) from error
        if _stat.S_ISDIR(status.st_mode):
            found = [(inside + path[len(host) :], s) for path, s in _walk(host, stat)]
        else:
            found = [(inside, status)]
        if not found or not _is_device(found[0][1]):
            raise errors.UsageError(f"--device: error gathering device information for {host!r}: not a device node")
        for path, each in found:
            node = _node(path, each)
            nodes.append(node)
            rules.append(
                {"allow": True, "type": node["type"], "major": node["major"], "minor": node["minor"], "access": access}
            )
    return nodes, rules


def all_of_host(stat: Stat = os.stat, root: str = "/dev") -> list[dict[str, Any]]:
    """Every device of the host, for `--privileged`: all of /dev but what a container has of its own."""
    own = ("/pts", "/shm", "/fd", "/mqueue", "/console", "/ptmx")
    skip = tuple(root + name for name in own)
    nodes = []
    for path, status in _walk(root, stat, skip):
        node = _node("/dev" + path[len(root) :], status)
        nodes.append(node)
    return nodes


def _walk(top: str, stat: Stat, skip: tuple[str, ...] = ()) -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = sorted(os.listdir(top))
    except OSError:
        return
    for name in entries:
        path = f"{top}/{name}"
        if path in skip or name.startswith("."):
            continue
        try:
            if os.path.islink(path):
                continue
            status = stat(path)
        except OSError:
            continue
        if _stat.S_ISDIR(status.st_mode):
            yield from _walk(path, stat)
        elif _is_device(status):
            yield path, status


def _is_device(status: os.stat_result) -> bool:
    return _stat.S_ISCHR(status.st_mode) or _stat.S_ISBLK(status.st_mode)


def _node(path: str, status: os.stat_result) -> dict[str, Any]:
    return {
        "path": path,
        "type": "b" if _stat.S_ISBLK(status.st_mode) else "c",
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": _stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
    }
