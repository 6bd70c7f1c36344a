"""Platforms: what an image runs on, and which of several a machine should take.

Text forms, normalisation and the order of preference are those of containerd's `platforms` package; the JSON is that
of the OCI image index. Pure data but for `host`, which asks uname(2) and, on 32-bit ARM, /proc/cpuinfo.
"""

from __future__ import annotations

import os as _os

from .. import errors
from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


class Platform(Record):
    """os, architecture and variant in Go's names ("linux", "arm64", "v8"); "" where unknown or the default."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def __str__(self) -> str:
        return format(self)


_KNOWN_OS = frozenset(
    {
        "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl", "netbsd",
        "openbsd", "plan9", "solaris", "wasip1", "windows", "zos",
    }
)  # fmt: skip
_KNOWN_ARCHITECTURES = frozenset(
    {
        "386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle", "mips64",
        "mips64le", "mips64p32", "mips64p32le", "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x",
        "sparc", "sparc64", "wasm",
    }
)  # fmt: skip
_COMPONENT = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")

_MACHINES = {
    "x86_64": ("amd64", ""), "i386": ("386", ""), "i486": ("386", ""), "i586": ("386", ""), "i686": ("386", ""),
    "aarch64": ("arm64", ""), "aarch64_be": ("arm64be", ""), "loongarch64": ("loong64", ""),
}  # fmt: skip
"""uname(2)'s machine → Go's architecture, where the two differ (ARM and MIPS are read by rule)."""


def normalize(platform: Platform) -> Platform:
    """The one way to write a platform: Go's names in lower case, default variants dropped (arm: "v7" spelled out)."""
    os = platform.os.lower()
    if os == "macos":
        os = "darwin"
    architecture, variant = _normalize_architecture(platform.architecture.lower(), platform.variant.lower())
    return Platform(os, architecture, variant, platform.os_version, platform.os_features)


def _normalize_architecture(architecture: str, variant: str) -> tuple[str, str]:
    if architecture == "i386":
        return "386", ""
    if architecture in ("x86_64", "x86-64", "amd64"):
        return "amd64", "" if variant == "v1" else variant
    if architecture in ("aarch64", "arm64"):
        return "arm64", "" if variant in ("8", "v8", "v8.0") else variant
    if architecture == "armhf":
        return "arm", "v7"
    if architecture == "armel":
        return "arm", "v6"
    if architecture == "arm":
        if variant in ("", "7"):
            return "arm", "v7"
        return "arm", f"v{variant}" if variant in ("5", "6", "8") else variant
    return architecture, variant


def parse(text: str) -> Platform:
    """A normalised platform from "os", "arch", "os/arch" or "os/arch/variant"; what is not said is the host's.

    The os may carry a version and features in parentheses: "windows(10.0.17763)/amd64", "linux(+gpu)/amd64". Raises
    InvalidArgument.
    """
    parts = text.split("/")
    os_text, version, features = _split_os(parts[0], text)
    for part in (os_text, *parts[1:]):
        if not part or not _COMPONENT.issuperset(part):
            raise _invalid(text, f"{part!r} is not a component of a platform")
    if len(parts) > 3:
        raise _invalid(text, "it has more than three parts")
    if len(parts) > 1:
        return normalize(Platform(os_text, parts[1], parts[2] if len(parts) == 3 else "", version, features))
    here = host()
    alone = normalize(Platform(os_text, here.architecture, here.variant, version, features))
    if alone.os in _KNOWN_OS:
        return alone
    alone = normalize(Platform(here.os, os_text))
    if alone.architecture == here.architecture and not version and not features:
        return here
    if alone.architecture in _KNOWN_ARCHITECTURES and not version and not features:
        return alone
    raise _invalid(text, "unknown operating system or architecture")


def _split_os(part: str, text: str) -> tuple[str, str, tuple[str, ...]]:
    os, parenthesis, inner = part.partition("(")
    if not parenthesis:
        return os, "", ()
    if not inner.endswith(")"):
        raise _invalid(text, "a parenthesis is not closed")
    version, *features = inner[:-1].split("+")
    for piece in (version, *features):
        if not _COMPONENT.issuperset(piece):
            raise _invalid(text, f"{piece!r} is not an os version or feature")
    return os, version, tuple(features)


def _invalid(text: str, why: str) -> errors.InvalidArgument:
    return errors.InvalidArgument(f"invalid platform {text!r}: {why}", advice="give OS/ARCH[/VARIANT], as linux/arm64")


def format(platform: Platform) -> str:
    """The text "os/architecture[/variant]", or "unknown" when there is no os."""
    if not platform.os:
        return "unknown"
    return "/".join(part for part in (platform.os, platform.architecture, platform.variant) if part)


def host() -> Platform:
    """The platform of this machine, normalised."""
    machine = _os.uname().machine.lower()
    if machine.startswith("arm"):
        return normalize(Platform("linux", "arm", _arm_variant(machine)))
    if machine.startswith("mips"):
        import sys

        return Platform("linux", machine.removesuffix("el") + ("le" if sys.byteorder == "little" else ""))
    architecture, variant = _MACHINES.get(machine, (machine, ""))
    return Platform("linux", architecture, variant)


def _arm_variant(machine: str, cpuinfo: str | None = None) -> str:
    """Which of "v5" to "v8" a 32-bit ARM is, from /proc/cpuinfo, else from uname's machine ("armv7l")."""
    if cpuinfo is None:
        cpuinfo = _read_cpuinfo()
    architecture = model = ""
    for line in cpuinfo.splitlines():
        key, _, value = line.partition(":")
        key = key.strip().lower()
        if key == "cpu architecture" and not architecture:
            architecture = value.strip().lower()
        elif key in ("model name", "processor") and not model.startswith("armv"):
            model = value.strip().lower()
    if architecture == "7" and model.startswith("armv6-compatible"):
        architecture = "6"  # the first Raspberry Pi calls its ARMv6 core architecture 7
    if not architecture:
        architecture = machine.removeprefix("armv")
    if architecture == "aarch64":
        return "v8"
    return f"v{architecture[0]}" if architecture[:1] in tuple("5678") else ""


def _read_cpuinfo() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
            return file.read(1 << 16)
    except OSError:
        return ""


def from_json(value: Any) -> Platform:
    """A platform as an index's descriptor or an image config has it, kept as written (matching normalises)."""
    features = value.get("os.features")
    return Platform(
        os=str(value.get("os") or ""),
        architecture=str(value.get("architecture") or ""),
        variant=str(value.get("variant") or ""),
        os_version=str(value.get("os.version") or ""),
        os_features=tuple(str(f) for f in features) if isinstance(features, list) else (),
    )


def to_json(platform: Platform) -> dict[str, Any]:
    """The platform's JSON, members in the specification's order, empty ones left out."""
    out: dict[str, Any] = {"architecture": platform.architecture, "os": platform.os}
    if platform.os_version:
        out["os.version"] = platform.os_version
    if platform.os_features:
        out["os.features"] = list(platform.os_features)
    if platform.variant:
        out["variant"] = platform.variant
    return out


def preference(wanted: Platform) -> tuple[Platform, ...]:
    """What a machine of this platform can run, best first (containerd's `Only`).

    amd64/v3 runs v3, v2, v1 and 386; arm/v7 runs v7, v6, v5; arm64 runs arm64 and then 32-bit arm from v8 down.
    """
    wanted = normalize(wanted)
    order = [(wanted.architecture, wanted.variant)]
    if wanted.architecture == "amd64":
        order += [("amd64", f"v{v}" if v > 1 else "") for v in _below(wanted.variant, 1)]
        order.append(("386", ""))
    elif wanted.architecture == "arm":
        order += [("arm", f"v{v}") for v in _below(wanted.variant, 5)]
    elif wanted.architecture == "arm64":
        if wanted.variant:
            order += [("arm64", v) for v in _arm64_below(wanted.variant)]
        order += [("arm", f"v{v}") for v in (8, 7, 6, 5)]
    return tuple(
        Platform(wanted.os, architecture, variant, wanted.os_version, wanted.os_features)
        for architecture, variant in order
    )


def _below(variant: str, lowest: int) -> range:
    digits = variant[1:]
    start = int(digits) if variant[:1] == "v" and digits.isascii() and digits.isdigit() and len(digits) < 3 else lowest
    return range(start - 1, lowest - 1, -1)


def _arm64_below(variant: str) -> list[str]:
    """v9.2 → v9.1, v9, v8.7 … v8.1, ""; v8.3 → v8.2, v8.1, "". Armv9.x takes in Armv8.(x+5)."""
    major, _, minor_text = variant[1:].partition(".")
    minor = int(minor_text) if minor_text.isascii() and minor_text.isdigit() and len(minor_text) < 3 else 0
    out: list[str] = []
    if major == "9":
        out += [f"v9.{m}" if m else "v9" for m in range(minor - 1, -1, -1)]
        minor += 6
    elif major != "8":
        return [""]
    out += [f"v8.{m}" for m in range(minor - 1, 0, -1)]
    return [*out, ""]


def rank(wanted: Platform, offered: Platform, *, strict: bool = False) -> int:
    """How well `offered` runs where `wanted` is wanted: 0 is best, -1 is not at all.

    strict: only the same architecture and variant (containerd's `OnlyStrict`).
    """
    offered = normalize(offered)
    order = (normalize(wanted),) if strict else preference(wanted)
    for position, candidate in enumerate(order):
        if _same(candidate, offered):
            return position
    return -1


def _same(wanted: Platform, offered: Platform) -> bool:
    if (wanted.os, wanted.architecture, wanted.variant) != (offered.os, offered.architecture, offered.variant):
        return False
    if wanted.os == "windows" and wanted.os_version and offered.os_version:
        # Windows containers share the host's kernel interface: major, minor and build must agree.
        return wanted.os_version.split(".")[:3] == offered.os_version.split(".")[:3]
    return set(offered.os_features) <= set(wanted.os_features)


def matches(wanted: Platform, offered: Platform, *, strict: bool = False) -> bool:
    """Whether what is built for `offered` runs where `wanted` is wanted; see `rank`."""
    return rank(wanted, offered, strict=strict) >= 0


def best(wanted: Platform, candidates: Iterable[Platform], *, strict: bool = False) -> Platform | None:
    """The candidate that suits `wanted` best (the first of equals), or None when none does."""
    chosen, chosen_rank = None, -1
    for candidate in candidates:
        position = rank(wanted, candidate, strict=strict)
        if position >= 0 and (chosen_rank < 0 or position < chosen_rank):
            chosen, chosen_rank = candidate, position
    return chosen
