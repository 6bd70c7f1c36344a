"""System-call filters: the default profile or a user's, resolved for a container, and kept compiled.

`Choice` says which profile for which capabilities; `compile` makes of it the `linux.seccomp` section and, for crun, the
finished BPF program. libseccomp needs 13 ms for the default profile (crun spends them in every create; probed), so the
first container's program is taken from crun's own state (`harvest`) and handed to the next ones by crun's annotation
`run.oci.seccomp_bpf_data`. The section stays in the specification beside it: for `exec`, for runc, for people.
Sources: runtime-spec config-linux.md; Docker's seccomp documentation for profiles with includes and excludes; crun(1).
On the hot path: the profile's table and JSON are only touched when nothing fitting is cached.
"""

from __future__ import annotations

import os

from ...base import errors, fsio, jsonio
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .runtimes import Runtime

PROFILE_VERSION = "1"
"""Part of the name of cached programs: raise it with every change of `seccomp_profile` (a unit test insists)."""

BPF_ANNOTATION = "run.oci.seccomp_bpf_data"

_EPERM, _ENOSYS = 1, 38
_MAX_INSTRUCTIONS = 4096
_CLONE_FLAGS = 0x7E020000


class Choice(Record):
    """Which filter a container gets. kind: "none", "default", or "profile" (then `profile` is its JSON).

    capabilities: the bounding set, as a mask. machine, kernel: as in HostFacts.
    """

    kind: str = "none"
    capabilities: int = 0
    machine: str = "x86_64"
    kernel: tuple[int, int] = (6, 1)
    profile: str = ""


class Filter(Record):
    """section: `linux.seccomp` as JSON, "" for no filter. bpf: its program in base64, "" when none is at hand.

    key: under which `harvest` may keep the program, "" when it is not to be kept.
    """

    section: str = ""
    bpf: str = ""
    key: str = ""


NONE = Filter()


def compile(choice: Choice, runtime: Runtime, cache: str) -> Filter:
    """The filter of a choice, for this OCI runtime.

    cache: the directory of compiled programs (`STATE/cache`; it need not exist). Raises UsageError for a profile that
    makes no sense.
    """
    if choice.kind == "none":
        return NONE
    if choice.kind == "profile":
        made = user_profile(choice.profile, choice.capabilities, choice.machine, choice.kernel)
        return Filter(jsonio.dumps(made))
    key = ""
    if runtime.seccomp_bpf:
        key = (
            f"seccomp-{PROFILE_VERSION}-{choice.capabilities:x}-{choice.machine}-{choice.kernel[0]}.{choice.kernel[1]}"
            f"-{runtime.identity}"
        )
        found = _cached(f"{cache}/{key}")
        if found is not None:
            return Filter(found[0], found[1], key)
    section = jsonio.dumps(default_profile(choice.capabilities, choice.machine, choice.kernel))
    return Filter(section, "", key)


def harvest(filter: Filter, cache: str, state: str) -> bool:
    """Keep the program that crun has just compiled for a container, so that the next one need not wait for it.

    Call after `create` when `filter.key and not filter.bpf`. state: the container's directory in crun's state
    (`STATE/crun/<id>`). Returns whether a program was kept; a missing or strange file is no error: it is only speed.
    """
    if not filter.key or filter.bpf:
        return False
    try:
        fd = os.open(f"{state}/seccomp.bpf", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            program = os.read(fd, _MAX_INSTRUCTIONS * 8 + 1)
        finally:
            os.close(fd)
    except OSError:
        return False
    if not _looks_whole(program):
        return False
    import binascii

    text = binascii.b2a_base64(program, newline=False)
    try:
        fsio.make_dirs(cache)
        fsio.write_atomic(f"{cache}/{filter.key}", b"\n".join((text, filter.section.encode(), b"end")), durable=False)
    except OSError:
        return False
    return True


def _looks_whole(program: bytes) -> bool:
    """Whether this can be a seccomp program: whole instructions, and the last one returns (BPF_RET | BPF_K)."""
    return 0 < len(program) <= _MAX_INSTRUCTIONS * 8 and len(program) % 8 == 0 and program[-8:-6] == b"\x06\x00"


def _cached(path: str) -> tuple[str, str] | None:
    try:
        data = fsio.read_file(path, 1 << 20).decode("ascii").split("\n")
    except (OSError, ValueError, errors.OrlopError):
        return None
    if len(data) != 3 or data[2] != "end" or not data[0] or not data[1].startswith("{"):
        return None
    return data[1], data[0]


def _rule(names: list[str], action: str, *args: tuple[int, int, str, int], errno: int | None = None) -> dict[str, Any]:
    rule: dict[str, Any] = {"names": names, "action": action}
    if errno is not None:
        rule["errnoRet"] = errno
    if args:
        rule["args"] = [
            {"index": index, "value": value, "valueTwo": two, "op": op}
            if two
            else {"index": index, "value": value, "op": op}
            for index, value, op, two in args
        ]
    return rule


def default_profile(capabilities: int, machine: str, kernel: tuple[int, int]) -> dict[str, Any]:
    """`linux.seccomp` of the default profile for a container with this bounding set. Pure.

    Raises Unimplemented for a machine the profile does not know.
    """
    from . import seccomp_profile as table
    from .capabilities import bit

    if machine not in table.ARCHITECTURES:
        raise errors.Unimplemented(
            f"the default seccomp profile does not know {machine}", advice="use --security-opt seccomp=FILE"
        )
    allowed = set(" ".join(table.ALLOWED).split())
    denied = set(table.DENIED.split())
    for name, calls in table.BY_CAPABILITY:
        (allowed if capabilities & bit(name) else denied).update(calls.split())
    for version, calls in table.BY_KERNEL:
        (allowed if kernel >= version else denied).update(calls.split())
    for machines, calls in table.BY_MACHINE:
        (allowed if machine in machines else denied).update(calls.split())
    denied -= allowed
    allow, refuse = "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"
    rules = []
    if "clone" not in allowed:
        # clone without new namespaces; clone3 hides its flags in memory, so programs must fall back to clone.
        denied -= {"clone", "clone3"}
        place = 1 if machine == "s390x" else 0
        rules.append(_rule(["clone"], allow, (place, _CLONE_FLAGS, "SCMP_CMP_MASKED_EQ", 0)))
        for flag in table.NAMESPACE_FLAGS:
            rules.append(_rule(["clone"], refuse, (place, flag, "SCMP_CMP_MASKED_EQ", flag), errno=_EPERM))
        rules.append(_rule(["clone3"], refuse, errno=_ENOSYS))
    for value in table.PERSONALITIES:
        rules.append(_rule(["personality"], allow, (0, value, "SCMP_CMP_EQ", 0)))
    first = min(table.REFUSED_FAMILIES)
    rules.append(_rule(["socket"], allow, (0, first, "SCMP_CMP_LT", 0)))
    for family in range(first, table.LAST_FAMILY + 1):
        if family in table.REFUSED_FAMILIES:
            rules.append(_rule(["socket"], refuse, (0, family, "SCMP_CMP_EQ", 0), errno=_EPERM))
        else:
            rules.append(_rule(["socket"], allow, (0, family, "SCMP_CMP_EQ", 0)))
    rules.append(_rule(["socket"], refuse, (0, table.LAST_FAMILY, "SCMP_CMP_GT", 0), errno=_EPERM))
    return {
        "defaultAction": refuse,
        "defaultErrnoRet": _ENOSYS,
        "architectures": list(table.ARCHITECTURES[machine]),
        "syscalls": [
            _rule(sorted(allowed), allow),
            _rule(sorted(denied), refuse, errno=_EPERM),
            *rules,
        ],
    }


_ACTIONS = frozenset(
    f"SCMP_ACT_{name}"
    for name in ("KILL", "KILL_PROCESS", "KILL_THREAD", "TRAP", "ERRNO", "TRACE", "ALLOW", "LOG", "NOTIFY")
)
_OPERATORS = frozenset(f"SCMP_CMP_{name}" for name in ("NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"))


def user_profile(text: str, capabilities: int, machine: str, kernel: tuple[int, int]) -> dict[str, Any]:
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
        made["architectures"] = architectures
    for member in ("flags", "listenerPath", "listenerMetadata"):
        if profile.get(member):
            made[member] = profile[member]
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
        if not names or not all(isinstance(name, str) and name for name in names):
            raise _bad(f"{where}.names", names)
        rule: dict[str, Any] = {"names": names, "action": _one_of(call, "action", _ACTIONS, where)}
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
