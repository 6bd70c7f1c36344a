"""A user's own seccomp profile, in Docker's format or the OCI's, resolved for a container.

Pure. Nothing of a profile is skipped silently: what is not understood is an error, since a rule that went missing could
have been the one that protects. Sources: Docker's seccomp documentation (archMap, includes, excludes),
containers/common (errno by name), runtime-spec config-linux.md. Off the hot path: only `--security-opt seccomp=FILE`.
"""

from __future__ import annotations

from ...base import errors, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_ACTIONS = frozenset(
    f"SCMP_ACT_{name}"
    for name in ("KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY")
)
_OPERATORS = frozenset(f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))


def resolve(text: str, capabilities: int, machine: str, kernel: tuple[int, int]) -> dict[str, Any]:
    """`linux.seccomp` of a user's profile: Docker's format (archMap, includes, excludes) or the OCI's. Pure.

    Raises UsageError naming the member that is wrong; nothing of a profile is skipped silently.
    """
    try:
        profile = jsonio.loads(text)
    except ValueError as error:
        raise errors.UsageError(f"decoding seccomp profile failed: {error}") from error
    if not isinstance(profile, dict):
        raise _bad("the document", profile)
    from . import seccomp_profile as table

    go_name = table.GO_NAMES.get(machine, machine)
    made: dict[str, Any] = {"defaultAction": _one_of(profile, "defaultAction", _ACTIONS)}
    _errno(profile, "defaultErrno", made)
    architectures = _list(profile, "architectures")
    arch_map = _list(profile, "archMap")
    if architectures and arch_map:
        raise errors.UsageError("seccomp profile: use either architectures or archMap, not both")
    if arch_map:
        native = table.ARCHITECTURES.get(machine, ("",))[0]
        for entry in arch_map:
            if isinstance(entry, dict) and entry.get("architecture") == native:
                architectures = [native, *_list(entry, "subArchitectures")]
    if architectures:
        made["architectures"] = _words(architectures, "architectures")
    if profile.get("flags"):
        made["flags"] = _words(_list(profile, "flags"), "flags")
    for member in ("listenerPath", "listenerMetadata"):
        value = profile.get(member)
        if value:
            if not isinstance(value, str) or "\0" in value:
                raise _bad(member, value)
            made[member] = value
    rules = []
    for number, call in enumerate(_list(profile, "syscalls")):
        where = f"syscalls[{number}]"
        if not isinstance(call, dict):
            raise _bad(where, call)
        if not _applies(call, where, capabilities, go_name, kernel):
            continue
        names = _list(call, "names")
        if call.get("name"):
            if names:
                raise errors.UsageError(f"seccomp profile: {where}: use either name or names, not both")
            names = [call["name"]]
        if not names:
            raise _bad(f"{where}.names", names)
        rule: dict[str, Any] = {
            "names": _words(names, f"{where}.names"),
            "action": _one_of(call, "action", _ACTIONS, where),
        }
        _errno(call, "errno", rule)
        args = []
        for arg in _list(call, "args"):
            if not isinstance(arg, dict):
                raise _bad(f"{where}.args", arg)
            one: dict[str, Any] = {}
            for member in ("index", "value", "valueTwo"):
                value = arg.get(member, 0)
                if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
                    raise _bad(f"{where}.args.{member}", value)
                one[member] = value
            one["op"] = _one_of(arg, "op", _OPERATORS, where)
            args.append(one)
        if args:
            rule["args"] = args
        rules.append(rule)
    made["syscalls"] = rules
    return made


def _bad(member: str, value: object) -> errors.UsageError:
    shown = repr(value)
    return errors.UsageError(f"seccomp profile: {member} is {shown if len(shown) < 60 else shown[:60] + '…'}")


def _one_of(value: dict[str, Any], member: str, known: frozenset[str], where: str = "") -> str:
    found = value.get(member)
    if not isinstance(found, str) or found not in known:
        raise _bad(f"{where}.{member}" if where else member, found)
    return found


def _list(value: dict[str, Any], member: str) -> list[Any]:
    found = value.get(member)
    if found is None:
        return []
    if not isinstance(found, list):
        raise _bad(member, found)
    return found


_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def _words(values: list[Any], member: str) -> list[str]:
    for value in values:
        if not isinstance(value, str) or not value or not _WORD.issuperset(value):
            raise _bad(member, value)
    return values


def _errno(value: dict[str, Any], member: str, into: dict[str, Any]) -> None:
    """`errnoRet` as a number, or by name as `errno` (containers/common writes both)."""
    target = f"{member}Ret"
    number = value.get(target)
    name = value.get(member)
    if number is None and isinstance(name, str) and name:
        import errno

        number = getattr(errno, name, None)
        if not isinstance(number, int):
            raise _bad(member, name)
    if number is not None:
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 4096:
            raise _bad(target, number)
        into[target] = number


def _applies(call: dict[str, Any], where: str, capabilities: int, arch: str, kernel: tuple[int, int]) -> bool:
    """Whether a rule's includes all hold and none of its excludes does."""
    from . import capabilities as names

    for member, wanted in (("includes", True), ("excludes", False)):
        condition = call.get(member)
        if not condition:
            continue
        if not isinstance(condition, dict):
            raise _bad(f"{where}.{member}", condition)
        caps = [bool(names.parse(str(cap), "seccomp profile") & capabilities) for cap in _list(condition, "caps")]
        arches = _list(condition, "arches")
        minimum = condition.get("minKernel")
        newer = minimum is None or kernel >= _kernel(minimum, f"{where}.{member}.minKernel")
        if wanted:
            if not all(caps) or (arches and arch not in arches) or not newer:
                return False
        elif any(caps) or arch in arches or (minimum is not None and newer):
            return False
    return True


def _kernel(text: object, where: str) -> tuple[int, int]:
    parts = text.split(".") if isinstance(text, str) else []
    if len(parts) != 2 or not all(part.isdecimal() and part.isascii() for part in parts):
        raise _bad(where, text)
    return int(parts[0]), int(parts[1])
