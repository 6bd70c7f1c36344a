"""Layers for tests: described as lists of entries, built alone as the layer store wants them, and applied one after
the other by a small applier that shares no code with Orlop: the truth a stack is compared with.

An entry is (kind, path, options): "dir", "file", "link", "hard", "device", "whiteout", "opaque".
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from typing import Any

Entry = tuple[str, str, dict[str, Any]]
DEFAULT_TIME_S = 1_600_000_000


def directory(path: str, mode: int = 0o755, **options: Any) -> Entry:
    return ("dir", path, {"mode": mode, **options})


def file(path: str, content: str = "", mode: int = 0o644, **options: Any) -> Entry:
    return ("file", path, {"mode": mode, "content": content or path, **options})


def link(path: str, target: str, **options: Any) -> Entry:
    return ("link", path, {"target": target, **options})


def hard(path: str, target: str) -> Entry:
    return ("hard", path, {"target": target})


def device(path: str, major: int, minor: int, **options: Any) -> Entry:
    return ("device", path, {"rdev": os.makedev(major, minor), "mode": 0o600, **options})


def whiteout(path: str) -> Entry:
    return ("whiteout", path, {})


def opaque(path: str) -> Entry:
    return ("opaque", path, {})


def diff_id(entries: Sequence[Entry]) -> str:
    return "sha256:" + hashlib.sha256(repr(list(entries)).encode()).hexdigest()


class Contradiction(Exception):
    """An archive that says two things of one file, once through a link: only its order tells which it means."""


class NoTarget(Exception):
    """A hard link to nothing, or files put below what is no directory."""


def build_alone(root: str, entries: Sequence[Entry]) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Lay a layer out in overlay form without knowing what is below; returns (implied, foreign links)."""
    implied: dict[str, None] = {} if any(path == "" for _, path, _ in entries) else {"": None}
    foreign: list[tuple[str, str]] = []

    def parents(path: str) -> None:
        parent = path.rpartition("/")[0]
        if not parent or os.path.isdir(f"{root}/{parent}"):
            return
        parents(parent)
        os.mkdir(f"{root}/{parent}", 0o755)
        os.chmod(f"{root}/{parent}", 0o755)
        implied[parent] = None

    times: list[tuple[str, int]] = []
    for kind, path, options in entries:
        place = f"{root}/{path}" if path else root
        parents(path)
        if kind == "dir":
            if not os.path.isdir(place):
                os.mkdir(place)
            implied.pop(path, None)
            times.append((place, _dress(place, options)))
        elif kind == "whiteout":
            os.mknod(place, stat.S_IFCHR, 0)
        elif kind == "opaque":
            if not os.path.isdir(place):
                os.mkdir(place, 0o755)
                os.chmod(place, 0o755)
                implied[path] = None
            os.setxattr(place, "trusted.overlay.opaque", b"y")
        elif kind == "hard" and not os.path.lexists(f"{root}/{options['target']}"):
            foreign.append((path, options["target"]))
        else:
            _make(kind, place, options, f"{root}/{options.get('target')}")  # the source, of a hard link
    for place, time_ns in reversed(times):
        os.utime(place, ns=(time_ns, time_ns))
    return tuple(implied), tuple(foreign)


def apply(root: str, entries: Sequence[Entry]) -> None:
    """Extract a layer on top of what is in `root`, as the OCI image specification tells (layer.md, "Applying").

    Whiteouts first. Directories nobody lists are made 0755; those that are there keep their attributes (and mtime).
    """
    kept: dict[str, int] = {}

    def real(path: str) -> str:
        """Where the directory `path` really is: links followed, inside the root."""
        done = root
        todo = [part for part in path.split("/") if part][::-1]
        hops = 0
        while todo:
            name = todo.pop()
            if name == "..":
                done = root if done == root else os.path.dirname(done)
                continue
            place = f"{done}/{name}"
            if os.path.islink(place):
                hops += 1
                if hops > 40:
                    raise NoTarget(path)
                target = os.readlink(place)
                done = root if target.startswith("/") else done
                todo += [part for part in target.split("/") if part not in ("", ".")][::-1]
                continue
            done = place
        return done

    def make_parents(path: str) -> str:
        parent, _, name = path.rpartition("/")
        place = root
        parts = parent.split("/") if parent else []
        for count in range(1, len(parts) + 1):
            through_link = os.path.islink(_beside(real, parts[:count]))
            place = real("/".join(parts[:count]))
            if os.path.isdir(place):
                continue
            if os.path.lexists(place):
                if through_link:
                    raise NoTarget(path)
                keep(os.path.dirname(place))
                os.unlink(place)
            missing = []
            while not os.path.isdir(place):
                if os.path.lexists(place):
                    raise NoTarget(path)
                missing.append(place)
                place = os.path.dirname(place)
            keep(place)
            for place in reversed(missing):
                os.mkdir(place)
                os.chmod(place, 0o755)
        keep(place)
        return f"{place}/{name}"

    def keep(place: str) -> None:
        kept.setdefault(place, os.lstat(place).st_mtime_ns)

    own_kinds = {path: kind for kind, path, _ in entries}

    def check(path: str, place: str) -> str:
        reached = place[len(root) + 1 :]
        if reached != path:
            parts = reached.split("/")
            above = ["/".join(parts[:count]) for count in range(1, len(parts))]
            below = any(each.startswith(f"{reached}/") for each in own_kinds)
            if reached in own_kinds or below or any(own_kinds.get(each, "dir") != "dir" for each in above):
                raise Contradiction(path)
        return place

    def remove(place: str) -> None:
        if os.path.isdir(place) and not os.path.islink(place):
            for name in os.listdir(place):
                remove(f"{place}/{name}")
            for gone in [each for each in kept if each == place]:
                del kept[gone]
            os.rmdir(place)
        elif os.path.lexists(place):
            os.unlink(place)

    for kind, path, _ in entries:
        if kind == "whiteout":
            remove(check(path, make_parents(path)))
        elif kind == "opaque":
            place = real(path)
            if place != f"{root}/{path}":
                raise NoTarget(
                    path
                )  # emptying through a link: Orlop refuses it or, where it is listed, replaces the link
            if os.path.isdir(place):
                keep(place)
                for name in os.listdir(place):
                    remove(f"{place}/{name}")
            make_parents(path + "/x")
    # A foreign link names what is below, whatever the layer puts there later.
    own = {path for kind, path, _ in entries if kind not in ("whiteout", "opaque")}
    targets = {}
    for kind, path, options in entries:
        if kind == "hard" and options["target"] not in own:
            source = check(options["target"], _beside(real, options["target"].split("/")))
            if not os.path.lexists(source) or (os.path.isdir(source) and not os.path.islink(source)):
                raise NoTarget(path)
            targets[path] = source
    for kind, path, options in entries:
        if kind in ("whiteout", "opaque"):
            continue
        if not path:
            kept[root] = _dress(root, options)
            continue
        place = check(path, make_parents(path))
        if kind == "dir":
            if os.path.islink(place) or not os.path.isdir(place):
                remove(place)
                os.mkdir(place)
            kept[place] = _dress(place, options)
            continue
        source = ""
        if kind == "hard":
            source = targets.get(path) or _beside(real, options["target"].split("/"))
        remove(place)
        _make(kind, place, options, source)
    for place, time_ns in kept.items():
        if os.path.isdir(place):
            os.utime(place, ns=(time_ns, time_ns))


def _beside(real: Any, parts: list[str]) -> str:
    return f"{real('/'.join(parts[:-1]))}/{parts[-1]}"


def _make(kind: str, place: str, options: dict[str, Any], source: str) -> None:
    if kind == "hard":
        os.link(source, place, follow_symlinks=False)
        return
    if kind == "file":
        with open(place, "x") as new:
            new.write(options["content"])
    elif kind == "link":
        os.symlink(options["target"], place)
    elif kind == "device":
        os.mknod(place, stat.S_IFCHR, options["rdev"])
    time_ns = _dress(place, options)
    os.utime(place, ns=(time_ns, time_ns), follow_symlinks=False)


def _dress(place: str, options: dict[str, Any]) -> int:
    os.chown(place, options.get("uid", 0), options.get("gid", 0), follow_symlinks=False)
    if "mode" in options:
        os.chmod(place, options["mode"])
    for name, value in options.get("xattrs", {}).items():
        os.setxattr(place, name, value, follow_symlinks=False)
    return int(options.get("time", DEFAULT_TIME_S)) * 1_000_000_000


def tree(root: str, *, times: bool = True) -> dict[str, dict[str, Any]]:
    """Everything a container can see of a tree: path → attributes. Equal hard links show the same `links` names."""
    found: dict[str, dict[str, Any]] = {}
    inodes: dict[tuple[int, int], list[str]] = {}
    for path, place in _walk(root):
        status = os.lstat(place)
        kind = stat.S_IFMT(status.st_mode)
        entry: dict[str, Any] = {
            "mode": oct(status.st_mode),
            "owner": (status.st_uid, status.st_gid),
            "xattrs": {
                name: os.getxattr(place, name, follow_symlinks=False)
                for name in os.listxattr(place, follow_symlinks=False)
                if not name.startswith(("trusted.overlay.", "user.overlay."))
            },
        }
        if times and path:
            entry["mtime"] = status.st_mtime_ns
        if kind == stat.S_IFREG:
            with open(place, "rb") as content:
                entry["content"] = content.read()
        elif kind == stat.S_IFLNK:
            entry["target"] = os.readlink(place)
        elif kind in (stat.S_IFCHR, stat.S_IFBLK):
            entry["device"] = status.st_rdev
        if kind != stat.S_IFDIR and status.st_nlink > 1:
            inodes.setdefault((status.st_dev, status.st_ino), []).append(path)
        found[path] = entry
    for names in inodes.values():
        for path in names if len(names) > 1 else ():  # overlayfs counts names that are hidden
            found[path]["links"] = sorted(names)
    return found


def _walk(root: str) -> Iterator[tuple[str, str]]:
    todo = [""]
    while todo:
        path = todo.pop()
        place = f"{root}/{path}" if path else root
        yield path, place
        if stat.S_ISDIR(os.lstat(place).st_mode):
            # In a directory that only one layer has, overlayfs lists whiteouts of nothing too; they cannot be opened.
            # (In a bind mount of one layer they show as what they are.)
            names = [name for name in os.listdir(place) if not _is_whiteout(f"{place}/{name}")]
            todo += [f"{path}/{name}" if path else name for name in sorted(names, reverse=True)]


def _is_whiteout(place: str) -> bool:
    try:
        status = os.lstat(place)
    except FileNotFoundError:
        return True
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0
