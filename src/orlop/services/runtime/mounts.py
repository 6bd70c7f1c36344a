"""File systems of a container: the default ones, `-v`, `--mount` and `--tmpfs`, and their order.

Pure but for `prepare_sources`, which looks at (and for `-v` makes) the directories of the host that are to be bound.
Sources: runtime-spec config.md and config-linux.md; docker run(1) for the grammar. On the hot path.
"""

from __future__ import annotations

import os
import stat

from ...base import errors
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

PROPAGATIONS = ("private", "rprivate", "shared", "rshared", "slave", "rslave")

_PROC: tuple[str, ...] = ("nosuid", "noexec", "nodev")


class Mount(Record):
    """One file system a caller asked for.

    type: "bind", "tmpfs", "volume" or "image" (the engine turns the last two into binds; `spec.generate` refuses what
    is left). source: a path of the host; a volume's or image's name; "" for tmpfs and anonymous volumes.
    target: the absolute path inside. options: for tmpfs those of mount(8); for a bind further options of the OCI
    runtime. propagation: one of PROPAGATIONS. recursive: bind what is mounted below the source too.
    recursive_read_only: None: where the kernel can; True: or fail; False: only the top mount.
    create_source: make a missing source directory (as `-v` does and `--mount` does not).
    labels: what was asked of the storage driver, for the engine ("volume-opt=…", "volume-nocopy").
    """

    type: str
    target: str
    source: str = ""
    read_only: bool = False
    options: tuple[str, ...] = ()
    propagation: str = "rprivate"
    recursive: bool = True
    recursive_read_only: bool | None = None
    create_source: bool = False
    subpath: str = ""
    labels: tuple[str, ...] = ()


def _usage(shown: str, why: str) -> errors.UsageError:
    """shown: the flag and its value, as in "--mount 'type=…'"."""
    return errors.UsageError(f"invalid {shown}: {why}")


def _target(shown: str, path: str) -> str:
    if not path.startswith("/"):
        raise _usage(shown, f"the path in the container must be absolute, not {path!r}")
    clean = os.path.normpath(path)
    if clean.startswith("//"):
        clean = clean[1:]
    if clean == "/":
        raise _usage(shown, "the path in the container cannot be '/'")
    return clean


def parse_volume(spec: str, cwd: str = "/") -> tuple[Mount, tuple[str, ...]]:
    """`-v [SOURCE:]TARGET[:OPTIONS]` as a mount, with warnings about options that have no effect here.

    A source that starts with "/" or "." is a path of the host (relative ones are taken from cwd); any other is the
    name of a volume; none is an anonymous volume. Raises UsageError.
    """
    shown = f"--volume {spec!r}"
    parts = spec.split(":")
    if not spec or len(parts) > 3 or not all(parts):
        raise _usage(shown, "the form is [SOURCE:]TARGET[:OPTIONS]")
    if len(parts) == 1:
        return Mount("volume", _target(shown, parts[0])), ()
    source, target = parts[0], _target(shown, parts[1])
    warnings = []
    read_only, recursive_ro = False, None
    propagation, recursive = "", True
    labels = []
    seen_mode = False
    for option in parts[2].split(",") if len(parts) == 3 else ():
        if option in ("ro", "rw", "rro"):
            if seen_mode:
                raise _usage(shown, "more than one of ro, rro, rw")
            seen_mode, read_only = True, option != "rw"
            recursive_ro = True if option == "rro" else None
        elif option in PROPAGATIONS:
            if propagation:
                raise _usage(shown, "more than one propagation")
            propagation = option
        elif option in ("bind", "rbind"):
            recursive = option == "rbind"
        elif option in ("z", "Z"):
            warnings.append(f"{spec}: option {option} has no effect: SELinux labels are not managed")
        elif option == "nocopy":
            labels.append("volume-nocopy")
        elif option not in ("consistent", "cached", "delegated", "default"):
            raise _usage(shown, f"unknown option {option!r}")
    if source.startswith(("/", ".")) or source == "~":
        kind, source = "bind", os.path.normpath(os.path.join(cwd, source))
    else:
        kind = "volume"
        if not _is_volume_name(source):
            raise _usage(
                shown, f"{source!r} is neither an absolute path nor a volume's name ([a-zA-Z0-9][a-zA-Z0-9_.-]*)"
            )
        if propagation:
            raise _usage(shown, "a volume has no propagation")
    made = Mount(
        kind,
        target,
        source,
        read_only=read_only,
        propagation=propagation or "rprivate",
        recursive=recursive,
        recursive_read_only=recursive_ro,
        create_source=kind == "bind",
        labels=tuple(labels),
    )
    return made, tuple(warnings)


_FIRST = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_REST = _FIRST | frozenset("_.-")


def _is_volume_name(name: str) -> bool:
    return 0 < len(name) <= 255 and name[0] in _FIRST and _REST.issuperset(name)


_TRUE = ("", "1", "true", "True", "TRUE", "t", "T", "yes")
_FALSE = ("0", "false", "False", "FALSE", "f", "F", "no")


def _bool(shown: str, key: str, value: str) -> bool:
    if value in _TRUE:
        return True
    if value in _FALSE:
        return False
    raise _usage(shown, f"{key} must be true or false, not {value!r}")


def parse_mount(spec: str, cwd: str = "/") -> tuple[Mount, tuple[str, ...]]:
    """`--mount key=value,…` (type, source, target, readonly, bind-…, tmpfs-…, volume-…), with warnings.

    Values may be quoted as in CSV ("…" with "" inside). Raises UsageError.
    """
    shown = f"--mount {spec!r}"
    kind, source, target = "volume", "", ""
    read_only, recursive, recursive_ro = False, True, None
    propagation, subpath, sub_of, create_source = "", "", "", False
    options: list[str] = []
    labels: list[str] = []
    warnings: list[str] = []
    for field in _csv(spec, shown):
        key, equals, value = field.partition("=")
        key = key.strip().lower()
        if key == "type":
            kind = value.lower()
        elif key in ("source", "src"):
            source = value
        elif key in ("target", "dst", "destination"):
            target = _target(shown, value)
        elif key in ("readonly", "ro"):
            read_only = _bool(shown, key, value)
        elif key == "bind-propagation":
            if value not in PROPAGATIONS:
                raise _usage(shown, f"bind-propagation must be one of {', '.join(PROPAGATIONS)}")
            propagation = value
        elif key == "bind-nonrecursive":
            recursive = not _bool(shown, key, value)
        elif key == "bind-recursive":
            if value not in ("enabled", "disabled", "writable", "readonly"):
                raise _usage(shown, "bind-recursive must be enabled, disabled, writable or readonly")
            recursive = value != "disabled"
            recursive_ro = {"writable": False, "readonly": True}.get(value)
        elif key == "tmpfs-size":
            options.append(f"size={_tmpfs_size(shown, value)}")
        elif key == "tmpfs-mode":
            options.append(f"mode={_octal(shown, value)}")
        elif key in ("volume-subpath", "image-subpath"):
            subpath = _subpath(shown, key, value)
            sub_of = key.partition("-")[0]
        elif key == "bind-create-src":
            create_source = _bool(shown, key, value)
        elif key == "volume-nocopy":
            if _bool(shown, key, value):
                labels.append(key)
        elif key in ("volume-label", "volume-driver", "volume-opt"):
            if not equals or (key == "volume-opt" and "=" not in value):
                raise _usage(shown, f"{key} needs a value")
            labels.append(key + equals + value)
        elif key == "consistency":
            pass
        elif key == "relabel":
            warnings.append(f"{spec}: relabel has no effect: SELinux labels are not managed")
        else:
            raise _usage(shown, f"unknown key {key!r}")
    if not target:
        raise _usage(shown, "target is required")
    if kind not in ("bind", "tmpfs", "volume", "image"):
        raise _usage(shown, f"unknown type {kind!r}")
    if kind == "bind":
        if not source:
            raise _usage(shown, "a bind needs a source")
        source = os.path.normpath(os.path.join(cwd, source))
        if recursive_ro and propagation not in ("", "rprivate"):
            raise _usage(shown, "bind-recursive=readonly requires bind-propagation=rprivate")
    elif propagation or not recursive or recursive_ro is not None:
        raise _usage(shown, f"bind-… does not go with type={kind}")
    if create_source and kind != "bind":
        raise _usage(shown, f"bind-create-src does not go with type={kind}")
    if subpath and sub_of != kind:
        raise _usage(shown, f"{sub_of}-subpath does not go with type={kind}")
    if kind == "volume" and source and not _is_volume_name(source):
        raise _usage(shown, f"{source!r} is not a volume's name ([a-zA-Z0-9][a-zA-Z0-9_.-]*)")
    if kind == "tmpfs":
        if source:
            raise _usage(shown, "a tmpfs has no source")
    elif options:
        raise _usage(shown, f"tmpfs-… does not go with type={kind}")
    if kind == "image" and not source:
        raise _usage(shown, "an image mount needs a source")
    if (labels or subpath) and kind not in ("volume", "image"):
        raise _usage(shown, f"volume-… does not go with type={kind}")
    if recursive_ro and not read_only:
        raise _usage(shown, "bind-recursive=readonly needs readonly")
    made = Mount(
        kind,
        target,
        source,
        read_only=read_only,
        options=tuple(options),
        propagation=propagation or "rprivate",
        recursive=recursive,
        recursive_read_only=recursive_ro,
        create_source=create_source,
        subpath=subpath,
        labels=tuple(labels),
    )
    return made, tuple(warnings)


def _subpath(shown: str, key: str, value: str) -> str:
    parts = [part for part in value.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or value.startswith("/"):
        raise _usage(shown, f"{key} must be a relative path within the {key.partition('-')[0]}, not {value!r}")
    return "/".join(parts)


def _csv(spec: str, shown: str) -> list[str]:
    if '"' not in spec:
        return spec.split(",")
    fields, current, quoted, index = [], [], False, 0
    while index < len(spec):
        char = spec[index]
        if quoted:
            if char != '"':
                current.append(char)
            elif spec[index + 1 : index + 2] == '"':
                current.append('"')
                index += 1
            else:
                quoted = False
        elif char == '"':
            quoted = True
        elif char == ",":
            fields.append("".join(current))
            current = []
        else:
            current.append(char)
        index += 1
    if quoted:
        raise _usage(shown, "a quote is not closed")
    fields.append("".join(current))
    return fields


def _octal(shown: str, value: str) -> str:
    if not value or len(value) > 5 or any(c not in "01234567" for c in value):
        raise _usage(shown, f"mode must be octal, not {value!r}")
    return value


def _tmpfs_size(shown: str, value: str) -> str:
    lower = value.lower()
    digits = lower.rstrip("bkmgt%")
    unit = lower[len(digits) :]
    if (
        not digits.isdecimal()
        or not digits.isascii()
        or unit not in ("", "b", "k", "kb", "m", "mb", "g", "gb", "t", "tb", "%")
    ):
        raise _usage(shown, f"size must be a number with an optional k, m, g or %, not {value!r}")
    if unit == "%":
        return lower
    return str(int(digits) << {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}[unit[:1]])


_TMPFS_FLAGS = frozenset(
    "rw ro exec noexec suid nosuid dev nodev sync async dirsync remount mand nomand atime noatime diratime nodiratime "
    "relatime norelatime strictatime nostrictatime".split()
) | frozenset(PROPAGATIONS)  # fmt: skip


def parse_tmpfs(spec: str) -> Mount:
    """`--tmpfs DIR[:options]`. Without options to the contrary noexec, nosuid and nodev. Raises UsageError."""
    shown = f"--tmpfs {spec!r}"
    path, _, text = spec.partition(":")
    options: list[str] = []
    propagation = "rprivate"
    for option in text.split(",") if text else ():
        key, equals, value = option.partition("=")
        if option in PROPAGATIONS:
            propagation = option
        elif option in _TMPFS_FLAGS:
            options.append(option)
        elif key == "size" and equals:
            options.append(f"size={_tmpfs_size(shown, value)}")
        elif key == "mode" and equals:
            options.append(f"mode={_octal(shown, value)}")
        elif key in ("uid", "gid", "nr_inodes", "nr_blocks") and value.isascii() and value[:1].isdecimal():
            if not value.rstrip("kmgKMG").isdecimal():
                raise _usage(shown, f"{key} must be a number, not {value!r}")
            options.append(option)
        elif option not in ("tmpcopyup", "notmpcopyup"):
            raise _usage(shown, f"unknown tmpfs option {option!r}")
        elif option == "tmpcopyup":
            options.append(option)
    return Mount("tmpfs", _target(shown, path), options=tuple(options), propagation=propagation)


def prepare_sources(mounts: Iterable[Mount]) -> tuple[Mount, ...]:
    """Check that the source of every bind is there; make it (a directory, 0755) where the mount says so.

    Returns the mounts with what was found out: nothing is mounted below a file (and crun 1.8 cannot make "all below"
    a file read-only).
    Raises NotFound for a `--mount` whose source is missing, and what os.makedirs would, as ours.
    """
    found = []
    for mount in mounts:
        found.append(mount)
        if mount.type != "bind":
            continue
        try:
            if not stat.S_ISDIR(os.stat(mount.source).st_mode):
                found[-1] = mount.replace(recursive=False)
        except FileNotFoundError:
            if not mount.create_source:
                raise errors.UsageError(f"bind source path does not exist: {mount.source}") from None
            try:
                os.makedirs(mount.source, 0o755, exist_ok=True)
            except OSError as error:
                raise errors.from_os(error, "create the bind source") from error
        except OSError as error:
            raise errors.from_os(error, "look at the bind source") from error
        if mount.propagation in _SPREADING:
            _check_propagation(mount)
    return tuple(found)


_SPREADING = ("shared", "rshared", "slave", "rslave")


def _check_propagation(mount: Mount) -> None:
    """A mount spreads only as far as the mount its source lies on lets it: refuse what would silently not happen."""
    from ...base.kernel.mountinfo import mountinfo

    real = os.path.realpath(mount.source)
    on = None
    for each in mountinfo():
        point = each.mount_point.rstrip("/")
        if f"{real}/".startswith(f"{point}/") and (on is None or len(point) >= len(on.mount_point.rstrip("/"))):
            on = each
    kinds = tuple(option.partition(":")[0] for option in on.optional) if on is not None else ()
    if "shared" in kinds or (mount.propagation in ("slave", "rslave") and "master" in kinds):
        return
    wanted = "shared" if "shared" in mount.propagation else "shared or slave"
    raise errors.UsageError(
        f"mount {mount.target}: path {mount.source} is mounted on {on.mount_point if on else '/'}, "
        f"which is not a {wanted} mount: {mount.propagation} cannot be applied",
        advice=f"mount --make-shared {on.mount_point if on else '/'}",
    )


# --- into the specification ---


def defaults(shm_bytes: int, *, shm: str, cgroups_writable: bool, privileged: bool) -> list[dict[str, Any]]:
    """The file systems every container has.

    shm: what to bind as /dev/shm when the IPC namespace is shared; "" makes one of shm_bytes, none when that is 0.
    """
    access = "rw" if privileged else "ro"
    cgroup_access = "rw" if privileged or cgroups_writable else "ro"
    found: list[dict[str, Any]] = [
        {"destination": "/proc", "type": "proc", "source": "proc", "options": [*_PROC]},
        {
            "destination": "/dev",
            "type": "tmpfs",
            "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
        },
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        },
        {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*_PROC, access]},
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": [*_PROC, "relatime", cgroup_access],
        },
    ]
    found.append({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": [*_PROC]})
    if shm:
        options = ["rbind", *_PROC, "rprivate"]
        found.append({"destination": "/dev/shm", "type": "bind", "source": shm, "options": options})
    elif shm_bytes:
        options = [*_PROC, "mode=1777", f"size={shm_bytes}"]
        found.append({"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": options})
    return found


def to_spec(mount: Mount, *, recursive_read_only: bool) -> dict[str, Any]:
    """A bind or tmpfs as an entry of `mounts`. recursive_read_only: whether kernel and OCI runtime can do it.

    Raises FailedPrecondition when recursion was demanded and cannot be done, InvalidArgument for other types.
    """
    if mount.type == "tmpfs":
        given = mount.options
        options = [
            flag
            for flag, opposite in (("noexec", "exec"), ("nosuid", "suid"), ("nodev", "dev"))
            if flag not in given and opposite not in given
        ]
        options += given
        if mount.read_only and "ro" not in options:
            options.append("ro")
        options.append(mount.propagation)
        return {"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": options}
    if mount.type != "bind":
        raise errors.InvalidArgument(f"mount {mount.target}: type {mount.type} has no source on this host")
    options = ["rbind" if mount.recursive else "bind", *mount.options]
    if mount.read_only:
        options.append("ro")
        if mount.recursive and mount.recursive_read_only is not False:
            if recursive_read_only:
                options.append("rro")
            elif mount.recursive_read_only:
                raise errors.FailedPrecondition(
                    f"mount {mount.target}: recursive read-only needs Linux 5.12 and an OCI runtime with rro",
                    advice="use bind-recursive=writable to make only the top mount read-only",
                )
    else:
        options.append("rw")
    options.append(mount.propagation)
    return {"destination": mount.target, "type": "bind", "source": mount.source, "options": options}


def merge(base: list[dict[str, Any]], wanted: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Default mounts and the caller's, in the order to mount them.

    What the caller mounts at a default's place replaces it; with a /dev of the caller's none of ours is put below it.
    The caller's are ordered so that a directory comes before what is below it. Raises UsageError for two at one place.
    """
    if not wanted:
        return base
    places = set()
    for mount in wanted:
        if mount["destination"] in places:
            raise errors.UsageError(f"duplicate mount point: {mount['destination']}")
        places.add(mount["destination"])
    own_dev = "/dev" in places
    kept = [
        mount
        for mount in base
        if mount["destination"] not in places and not (own_dev and mount["destination"].startswith("/dev/"))
    ]
    return kept + sorted(wanted, key=lambda mount: mount["destination"].count("/"))


def root_propagation(mounts: Iterable[Mount]) -> str:
    """What the container's root must be for the mounts to propagate as asked: "shared", "slave" or "" (private)."""
    found = ""
    for mount in mounts:
        if mount.type == "bind":
            if mount.propagation in ("shared", "rshared"):
                return "shared"
            if mount.propagation in ("slave", "rslave"):
                found = "slave"
    return found
