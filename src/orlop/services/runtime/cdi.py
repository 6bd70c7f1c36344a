"""Container Device Interface: what a device's vendor wants edited in a specification (`--device vendor/class=name`).

Reads the vendors' files (JSON; YAML where PyYAML is installed) in CDI's directories; those are the administrator's,
so their mounts and hooks are trusted. A file in a later directory overrides the same device in an earlier one.
Source: cncf-tags/container-device-interface SPEC.md 0.8. Loaded only when a CDI device is asked for.
"""

from __future__ import annotations

import os
import stat as _stat

from ...base import errors, fsio, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")
"""Lowest priority first."""

_MAX_BYTES = 4 << 20
_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


def is_name(text: str) -> bool:
    """Whether this is a fully qualified device name, "vendor/class=device", and not a path."""
    kind, equals, device = text.partition("=")
    vendor, slash, class_ = kind.partition("/")
    return bool(
        equals
        and slash
        and _is_word(vendor, "_-.")
        and _is_word(class_, "_-.")
        and _is_word(device, "_-.:", first=_ALNUM)
    )


def _is_word(text: str, others: str, first: frozenset[str] | None = None) -> bool:
    letters = _ALNUM - frozenset("0123456789") if first is None else first
    return bool(text) and text[0] in letters and text[-1] in _ALNUM and _ALNUM.union(others).issuperset(text)


def apply(spec: dict[str, Any], names: Iterable[str], directories: Sequence[str] = DIRECTORIES) -> None:
    """Edit a specification for these devices.

    Raises UsageError for a device nobody describes, FailedPrecondition for a description that cannot be used.
    """
    devices, general, broken = _load(directories)
    edited: set[str] = set()
    for name in names:
        if name not in devices:
            reason = f" ({broken[0]})" if broken else ""
            raise errors.UsageError(
                f"invalid --device {name!r}: unresolvable CDI device{reason}",
                advice=f"its vendor describes it in a file in {' or '.join(directories)}",
            )
        path, edits = devices[name]
        if path not in edited:
            edited.add(path)
            _edit(spec, general[path], path)
        _edit(spec, edits, path)


def _load(
    directories: Sequence[str],
) -> tuple[dict[str, tuple[str, dict[str, Any]]], dict[str, dict[str, Any]], list[str]]:
    """(device → (file, its edits), file → edits for all its devices, what could not be read)."""
    devices: dict[str, tuple[str, dict[str, Any]]] = {}
    general: dict[str, dict[str, Any]] = {}
    broken: list[str] = []
    for directory in directories:
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for file in names:
            if not file.endswith((".json", ".yaml", ".yml")):
                continue
            path = f"{directory}/{file}"
            try:
                found = _parse(path)
                kind = found["kind"]
                here = {f"{kind}={each['name']}": each.get("containerEdits") or {} for each in found["devices"]}
                if not all(is_name(name) for name in here):
                    raise ValueError("a device's name is not one")
            except (OSError, ValueError, KeyError, TypeError, AttributeError, errors.OrlopError) as error:
                broken.append(f"{path} cannot be read: {error}")
                continue
            general[path] = found.get("containerEdits") or {}
            devices.update({name: (path, edits) for name, edits in here.items()})
    return devices, general, broken


def _parse(path: str) -> dict[str, Any]:
    data = fsio.read_file(path, _MAX_BYTES)
    if path.endswith(".json"):
        found = jsonio.loads(data)
    else:
        try:
            import yaml  # type: ignore[import-untyped,import-not-found,unused-ignore]
        except ImportError:
            raise errors.FailedPrecondition("YAML needs PyYAML (pip install pyyaml)") from None
        try:
            found = yaml.safe_load(data)
        except yaml.YAMLError as error:
            raise ValueError(str(error).replace("\n", " ")) from None
    if not isinstance(found, dict):
        raise ValueError("not a CDI specification")
    return found


def _edit(spec: dict[str, Any], edits: dict[str, Any], path: str) -> None:
    try:
        _edit_process(spec["process"], edits)
        _edit_devices(spec["linux"], edits)
        _edit_mounts(spec["mounts"], edits)
        _edit_hooks(spec, edits)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise errors.FailedPrecondition(f"{path} is not a valid CDI specification: {error!r}") from error
    unknown = [key for key in edits if key not in ("env", "deviceNodes", "mounts", "hooks", "additionalGids")]
    if unknown:
        raise errors.FailedPrecondition(f"{path}: containerEdits.{unknown[0]} cannot be applied")


def _edit_process(process: dict[str, Any], edits: dict[str, Any]) -> None:
    added = [str(entry) for entry in edits.get("env") or ()]
    names = {entry.partition("=")[0] for entry in added}
    if added:
        process["env"] = [entry for entry in process["env"] if entry.partition("=")[0] not in names] + added
    groups = process["user"].setdefault("additionalGids", [])
    for gid in map(int, edits.get("additionalGids") or ()):
        if gid and gid not in groups:
            groups.append(gid)


def _edit_devices(linux: dict[str, Any], edits: dict[str, Any]) -> None:
    for node in edits.get("deviceNodes") or ():
        inside = node["path"]
        host = node.get("hostPath") or inside
        made = {"path": inside, "type": node.get("type", "")}
        if made["type"] not in ("b", "c", "p", "u", "") or not inside.startswith("/"):
            raise ValueError(f"device node {inside!r}")
        if not made["type"] or ("major" not in node and made["type"] != "p"):
            try:
                status = os.stat(host)
            except OSError as error:
                raise errors.FailedPrecondition(f"CDI device node {host}: {error.strerror}") from error
            made["type"] = "b" if _stat.S_ISBLK(status.st_mode) else "c" if _stat.S_ISCHR(status.st_mode) else "p"
            made["major"], made["minor"] = os.major(status.st_rdev), os.minor(status.st_rdev)
        else:
            made["major"], made["minor"] = int(node.get("major", 0)), int(node.get("minor", 0))
        for member in ("fileMode", "uid", "gid"):
            if node.get(member) is not None:
                made[member] = int(node[member])
        nodes = linux.setdefault("devices", [])
        nodes[:] = [each for each in nodes if each["path"] != inside] + [made]
        if made["type"] in ("b", "c", "u"):
            access = node.get("permissions") or "rwm"
            kind = "c" if made["type"] == "u" else made["type"]
            rule = {"allow": True, "type": kind, "major": made["major"], "minor": made["minor"], "access": access}
            linux["resources"].setdefault("devices", []).append(rule)


def _edit_mounts(mounts: list[dict[str, Any]], edits: dict[str, Any]) -> None:
    for mount in edits.get("mounts") or ():
        host, inside = mount["hostPath"], mount["containerPath"]
        if not host.startswith("/") or not inside.startswith("/"):
            raise ValueError(f"mount {host!r} at {inside!r}")
        options = [str(option) for option in mount.get("options") or ()]
        if not {"bind", "rbind"}.intersection(options):
            options.insert(0, "rbind")
        mounts[:] = [each for each in mounts if each["destination"] != inside]
        mounts.append({"destination": inside, "type": mount.get("type") or "bind", "source": host, "options": options})


def _edit_hooks(spec: dict[str, Any], edits: dict[str, Any]) -> None:
    for hook in edits.get("hooks") or ():
        when = hook["hookName"]
        if when not in _HOOKS:
            raise ValueError(f"hook {when!r}")
        made = {"path": hook["path"]}
        for member in ("args", "env", "timeout"):
            if hook.get(member):
                made[member] = hook[member]
        spec.setdefault("hooks", {}).setdefault(when, []).append(made)
    spec["linux"] = spec.pop("linux")  # the specification's printer wants it last
