"""System-call filters: the default profile or a user's, resolved for a container, and kept compiled.

`Choice` says which profile for which capabilities; `compile` makes of it the `linux.seccomp` section and, for crun, the
finished BPF program. libseccomp needs 13 ms for the default profile (crun spends them in every create; probed), so the
first container's program is taken from crun's own state (`harvest`) and handed to the next ones by crun's annotation
`run.oci.seccomp_bpf_data`. The section stays in the specification beside it: for `exec`, for runc, for people.
Sources: runtime-spec config-linux.md, crun(1).
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
        from . import seccomp_user

        made = seccomp_user.resolve(choice.profile, choice.capabilities, choice.machine, choice.kernel)
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
