"""What a machine holds that tests could leave behind, listed before and after a run and compared.

Knows nothing of Orlop's insides: it reads /proc, /sys and `nft`. Used by tests/conftest.py and scripts/clean-machine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator

MARK = "ORLOP_TEST_RUN"
"""Environment variable that every process a test run starts inherits, so that a leftover is known as this run's."""

_BY_NAME = re.compile(
    r"^(crun|runc|conmon|podman|dockerd|containerd|containerd-shim\S*|docker-registry|docker-proxy|netavark|"
    r"aardvark-dns|slirp4netns|pasta|orlop\S*)$"
)

Inventory = dict[str, dict[str, str]]
"""kind → key → description. Keys of one kind are compared; the description is what a person is told."""


def inventory() -> Inventory:
    """Everything of the kinds we watch that exists now."""
    return {
        "process": dict(processes()),
        "mount": dict(mounts()),
        "cgroup": dict(cgroups()),
        "network link": {name: name for name in names_in("/sys/class/net")},
        "network namespace": {name: f"/run/netns/{name}" for name in names_in("/run/netns")},
        "loop device": dict(loop_devices()),
        "unix socket": dict(unix_sockets()),
        "state directory": {name: f"/run/orlop/{name}" for name in names_in("/run/orlop")},
        "nft table": dict(nft_tables()),
    }


def left_over(before: Inventory, after: Inventory) -> list[str]:
    """One line for each thing that is there after and was not there before."""
    return [f"{kind}: {after[kind][key]}" for kind in after for key in sorted(after[kind].keys() - before[kind].keys())]


def is_ours(line: str, mark: str, roots: tuple[str, ...]) -> bool:
    """Whether a line of `left_over` certainly comes from the run with this mark, or lies under its directories."""
    return f"{MARK}={mark}" in line or any(root in line for root in roots)


def processes() -> Iterator[tuple[str, str]]:
    """Processes that carry the mark in their environment, or are programs that containers are made of."""
    for pid in names_in("/proc"):
        if not pid.isdigit() or int(pid) == os.getpid():
            continue
        environ, words = read(f"/proc/{pid}/environ"), read(f"/proc/{pid}/cmdline").rstrip("\0").split("\0")
        marks = [entry for entry in environ.split("\0") if entry.startswith(f"{MARK}=")]
        stat = read(f"/proc/{pid}/stat")
        fields = stat.rpartition(")")[2].split()
        if not fields:
            continue
        name = stat.partition("(")[2].rpartition(")")[0]
        by_name = any(_BY_NAME.match(os.path.basename(word)) for word in [*words[:1], name])
        if os.path.basename(words[0]).startswith("python"):
            by_name = by_name or any("orlop." in word or word.endswith("/orlop") for word in words[:8])
        if fields[0] == "Z" and not by_name:
            continue
        if marks or by_name:
            yield f"{pid}@{fields[19]}", f"{pid} {' '.join(words)[:160] or name} {' '.join(marks)}".rstrip()


def mounts() -> Iterator[tuple[str, str]]:
    """Mounts of this mount namespace."""
    for line in read("/proc/self/mountinfo").splitlines():
        fields, _, rest = line.partition(" - ")
        number, point = fields.split()[0], _unescape(fields.split()[4])
        yield f"{number} {point}", f"{point} ({rest.split()[0]})"


def mount_points() -> list[str]:
    """Mount points, the innermost last."""
    return [_unescape(line.split()[4]) for line in read("/proc/self/mountinfo").splitlines()]


def cgroups() -> Iterator[tuple[str, str]]:
    """Cgroup directories of every hierarchy, but those beside the one this process was put in by its own manager."""
    beside = set()
    for line in read("/proc/self/cgroup").splitlines():
        path = line.split(":", 2)[2].strip("/")
        if path:
            beside.add(path.split("/")[0])
    tops = [point for point in mount_points() if point.startswith("/sys/fs/cgroup")]
    for top in tops:
        if not os.path.exists(f"{top}/cgroup.procs"):
            continue
        for directory, names, _ in os.walk(top):
            if directory == top:
                names[:] = [name for name in names if name not in beside and f"{top}/{name}" not in tops]
            else:
                yield directory, directory


def loop_devices() -> Iterator[tuple[str, str]]:
    for name in names_in("/sys/block"):
        backing = read(f"/sys/block/{name}/loop/backing_file").strip() if name.startswith("loop") else ""
        if backing:
            yield f"/dev/{name} {backing}", f"/dev/{name} ({backing})"


def unix_sockets() -> Iterator[tuple[str, str]]:
    """Sockets that somebody holds open, under the directories where Orlop and its peers put theirs."""
    for line in read("/proc/net/unix").splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and ("orlop" in fields[7] or "/containerd" in fields[7] or "/docker" in fields[7]):
            yield fields[7], fields[7]


def nft_tables() -> Iterator[tuple[str, str]]:
    """Tables with what is in them (counters apart), so that a rule left in somebody else's table shows too."""
    nft = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if nft is None:
        return
    done = subprocess.run([nft, "list", "ruleset"], capture_output=True, text=True, timeout=30, check=False)
    for table in re.split(r"^(?=table )", re.sub(r"counter packets \d+ bytes \d+", "counter", done.stdout), flags=re.M):
        if table.startswith("table "):
            yield table, table.splitlines()[0].rstrip(" {")


def names_in(path: str) -> list[str]:
    """The entries of a directory, sorted; none when there is no such directory."""
    try:
        return sorted(os.listdir(path))
    except OSError:
        return []


def read(path: str) -> str:
    """The text of a file of /proc or /sys; empty when it is gone."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
