#!/usr/bin/env python3
"""Measures Orlop beside its peers on this machine: `make bench`, or `bench/run.py [SUITE...] [--peers a,b]`.

Engines are interleaved within every round, so that a load that comes and goes meets them alike; medians, spans and
ratios are reported. All state lies on one loop-mounted ext4 with a journal; images come from a registry on loopback.
Everything is private to the run and gone at its end; every command and the whole run are bounded in time.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import images  # noqa: E402
from bench.peers import PEERS, Peer, run_to_end  # noqa: E402
from tests.support import ext4, machine  # noqa: E402

DOCUMENT = ROOT / "docs/benchmarks.md"
BEGIN, END = "<!-- bench: begin -->", "<!-- bench: end -->"
CONTAINERS = 20

Failure = (RuntimeError, OSError)


class Row:
    """One line of the report: what was measured, in which unit, and each engine's samples in the order taken."""

    def __init__(self, title: str, unit: str) -> None:
        self.title, self.unit, self.samples = title, unit, dict[str, list[float]]()

    def render(self, names: list[str]) -> str:
        digits = 2 if self.unit == "s" else 1
        cells = []
        for name in names:
            values = self.samples.get(name, [])
            span = f" ({min(values):.{digits}f}–{max(values):.{digits}f})" if len(values) > 1 else ""
            cells.append(f"{statistics.median(values):.{digits}f}{span}" if values else "–")
        return f"| {self.title}, {self.unit} | {' | '.join(cells)} | {self.ratios()} |"

    def ratios(self) -> str:
        """Orlop's median over each other's, the best of them first."""
        medians = {name: statistics.median(values) for name, values in self.samples.items() if values}
        own = medians.pop("orlop", 0.0)
        others = sorted(medians, key=medians.__getitem__)
        return ", ".join(f"{own / medians[name]:.2f} × {name}" for name in others) if own else ""


class Bench:
    """The engines that run here, the rows measured so far, and the loop that measures them."""

    def __init__(self, rounds: int, budget: float) -> None:
        self.rounds, self.deadline = rounds, time.monotonic() + budget
        self.peers: list[Peer] = []
        self.rows: list[Row] = []
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        print(f"bench: {text}", file=sys.stderr)
        self.notes.append(" ".join(text.split())[:400])

    def interleave(
        self, title: str, unit: str, rounds: int, once: Callable[[Peer, int], float], warm: bool = True
    ) -> Row:
        """Measure every engine once a round, each round beginning with another; a first round only warms up."""
        row, able = Row(title, unit), list(self.peers)
        for number in range(0 if warm else 1, rounds + 1):
            if time.monotonic() > self.deadline:
                self.note(f"{title}: the time budget ended it before round {number} of {rounds}")
                break
            turn = number % max(1, len(able))
            for peer in [*able[turn:], *able[:turn]]:
                try:
                    value = once(peer, number)
                except Failure as error:
                    self.note(f"{title}: {peer.name} is left out: {error}")
                    able.remove(peer)
                    row.samples.pop(peer.name, None)
                    continue
                if number:
                    row.samples.setdefault(peer.name, []).append(value)
        self.rows.append(row)
        print(row.render([peer.name for peer in self.peers]), flush=True)
        return row


def timed(peer: Peer, argv: list[str]) -> float:
    """Wall seconds until the command has exited. Raises RuntimeError when it fails."""
    began = time.perf_counter()
    process = peer.spawn(argv)
    run_to_end(process)
    took = time.perf_counter() - began
    peer.check(process, argv)
    return took


def measure_cli(bench: Bench) -> None:
    python: list[float] = []

    def once(peer: Peer, number: int) -> float:
        if peer is bench.peers[0] and number:
            python.append(timed(peer, [sys.executable, "-c", "pass"]) * 1e3)
        return timed(peer, peer.version()) * 1e3

    bench.interleave("print the version", "ms", bench.rounds, once).samples["python -c pass"] = python


def measure_start(bench: Bench, image: str) -> None:
    def run(peer: Peer, number: int) -> float:
        return timed(peer, peer.run(image, f"r{number}", "true")) * 1e3

    def execute(peer: Peer, number: int) -> float:
        if number == 0:
            peer.call(peer.start(image, "base", "sleep", "1000"))
        return timed(peer, peer.exec("base", "true")) * 1e3

    bench.interleave("run --rm --network none busybox true", "ms", bench.rounds, run)
    row = bench.interleave("exec CONTAINER true", "ms", bench.rounds, execute)
    for peer in bench.peers:
        if peer.name in row.samples:
            peer.call(peer.remove("base"))


def measure_pull(bench: Bench, title: str, image: str, rounds: int) -> None:
    def pull(peer: Peer, number: int) -> float:
        took = timed(peer, peer.pull(image))
        began = time.perf_counter()
        os.sync()
        took += time.perf_counter() - began
        peer.call(peer.run(image, f"check{number}", "true"))  # that it can run is checked, not counted
        for argv in peer.forget(image):
            peer.call(argv)
        os.sync()
        return took

    for peer in bench.peers:  # the layers that all begin with must not be there either
        for argv in peer.forget(image):
            peer.call(argv, must_succeed=False)
    bench.interleave(title, "s", rounds, pull)


def measure_memory(bench: Bench, big: str, small: str) -> None:
    def peak(peer: Peer, _: int) -> float:
        highest = sampled(peer, peer.pull(big))
        for argv in peer.forget(big):
            peer.call(argv)
        return highest / 2**20

    def resident(peer: Peer, _: int) -> float:
        before, names = set(helpers(peer)), [f"m{number}" for number in range(CONTAINERS)]
        for name in names:
            peer.call(peer.start(small, name, "sleep", "1000"))
        time.sleep(1)  # what only starts things up has ended
        total = sum(proportional(pid) for pid in set(helpers(peer)) - before)
        for name in names:
            peer.call(peer.remove(name))
        return total / CONTAINERS / 2**20

    bench.interleave("peak RSS of pulling a 1 GiB layer", "MiB", 1, peak, warm=False)
    bench.interleave(f"helper processes of {CONTAINERS} containers, PSS each", "MiB", 1, resident, warm=False)


def sampled(peer: Peer, argv: list[str]) -> int:
    """Run a command; returns the highest sum of RSS, in bytes, of its processes and the engine's daemons'."""
    highest, ended, process = 0, threading.Event(), peer.spawn(argv)

    def sample() -> None:
        nonlocal highest
        while not ended.wait(0.01):
            pids = descendants([process.pid, *(daemon.pid for daemon in peer.daemons)])
            pages = sum(int(machine.read(f"/proc/{pid}/statm").partition(" ")[2].split(" ")[0] or 0) for pid in pids)
            highest = max(highest, pages * os.sysconf("SC_PAGESIZE"))

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        run_to_end(process)
    finally:
        ended.set()
        thread.join()
    peer.check(process, argv)
    return highest


def descendants(roots: list[int]) -> set[int]:
    """These processes and all below them."""
    stats = {int(name): machine.read(f"/proc/{name}/stat") for name in os.listdir("/proc") if name.isdigit()}
    parents = {pid: int(stat.rpartition(")")[2].split()[1]) for pid, stat in stats.items() if stat}
    found = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def helpers(peer: Peer) -> Iterator[int]:
    """Processes of an engine that are no container's own."""
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) != os.getpid():
            words = machine.read(f"/proc/{name}/cmdline")
            mark = f"ORLOP_BENCH_PEER={peer.name}\0" in machine.read(f"/proc/{name}/environ") + "\0"
            if (mark or str(peer.directory) in words or str(peer.state) in words) and "sleep\x001000" not in words:
                yield int(name)


def proportional(pid: int) -> int:
    lines = machine.read(f"/proc/{pid}/smaps_rollup").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


@contextmanager
def without_hybrid() -> Iterator[Callable[[], None]]:
    """What a child calls to enter a mount namespace that looks like a plain cgroup v1 machine.

    Debian's crun refuses to start where cgroup2 holds a controller beside v1, and podman with it. Orlop has its own way
    and is measured with that. On a machine of another layout the namespace is as it is outside.
    """
    hide = "mountpoint -q /sys/fs/cgroup/unified && mount -t tmpfs none /sys/fs/cgroup/unified; echo; exec sleep 100000"
    libc = ctypes.CDLL(None, use_errno=True)
    with subprocess.Popen(["unshare", "-m", "sh", "-c", hide], stdout=subprocess.PIPE) as holder:
        os.read(holder.stdout.fileno(), 1)  # type: ignore[union-attr]
        namespace = os.open(f"/proc/{holder.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)

        def enter() -> None:
            if libc.setns(namespace, 0x00020000) != 0:  # CLONE_NEWNS
                raise OSError(ctypes.get_errno(), "setns")

        try:
            yield enter
        finally:
            os.close(namespace)
            holder.kill()


def measure(stack: ExitStack, options: argparse.Namespace) -> tuple[Bench, str]:
    """Set everything up, run the suites, render the report. What must be undone is put on the stack."""
    temporary, state = (Path(tempfile.mkdtemp(prefix="orlop-bench-", dir=place)) for place in ("/var/tmp", "/run"))
    for directory in (temporary, state):
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
    disk = Path(stack.enter_context(ext4.mounted(str(temporary), 24 << 30)))
    enter = stack.enter_context(without_hybrid())
    host = stack.enter_context(images.registry(disk))
    contents: dict[str, list[images.Writer]] = {"busybox": [images.busybox]}
    if "pull" in options.suite:
        contents["application"] = images.application()
    if "memory" in options.suite:
        contents["gibibyte"] = [images.gibibyte]
    names = {name: f"{host}/bench/{name}:1" for name in contents}
    made = [f"- `{name}`: {images.publish(names[name], contents[name], disk)}" for name in contents]
    os.sync()

    bench = Bench(options.rounds, options.budget)
    for kind in PEERS:
        if kind.name not in options.peers.split(","):
            continue
        peer = kind(disk / kind.name, state / kind.name, host, enter)
        stack.callback(peer.teardown)
        try:
            peer.setup()
            peer.call(peer.pull(names["busybox"]))
            peer.call(peer.run(names["busybox"], "first", "true"))
            bench.peers.append(peer)
        except Failure as error:
            bench.note(f"{kind.name} is not measured: {error}")
    if "cli" in options.suite:
        measure_cli(bench)
    if "start" in options.suite:
        measure_start(bench, names["busybox"])
    if "memory" in options.suite:
        measure_memory(bench, names["gibibyte"], names["busybox"])
    if "pull" in options.suite:
        measure_pull(bench, "pull busybox until it can run", names["busybox"], -(-options.rounds // 3))
        measure_pull(bench, "pull the application until it can run", names["application"], -(-options.rounds // 5))
    return bench, report(bench, made)


def report(bench: Bench, made: list[str]) -> str:
    """The document's generated part: when, where, what, the table, what was left out."""
    cpu = [line.partition(": ")[2] for line in machine.read("/proc/cpuinfo").splitlines() if "model name" in line]
    gigabytes = os.sysconf("SC_PAGESIZE") * os.sysconf("SC_PHYS_PAGES") >> 30
    versions = []
    for peer in bench.peers:
        numbers = [word.strip(",") for word in peer.call(peer.version()).split() if word[0].isdigit()]
        versions.append(f"{peer.name} {numbers[0] if numbers else ''}")
    names = list(dict.fromkeys([*(peer.name for peer in bench.peers), *(n for row in bench.rows for n in row.samples)]))
    return "\n".join([
        f"Measured {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC with `bench/run.py {' '.join(sys.argv[1:])}`: "
        f"{os.cpu_count()} × {cpu[0] if cpu else os.uname().machine}, {gigabytes} GiB, Linux {os.uname().release}, "
        f"Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f} at the end; {', '.join(versions)}.",
        "", *made, "",
        f"| median (min–max) | {' | '.join(names)} | orlop is |",
        f"|---|{'---|' * (len(names) + 1)}",
        *(row.render(names) for row in bench.rows),
        *([""] if bench.notes else []), *(f"- {note}" for note in bench.notes),
    ])  # fmt: skip


def clear(before: machine.Inventory) -> list[str]:
    """Remove what engines leave even when they are told to remove all; returns what stays."""
    after = machine.inventory()
    for key in after["process"].keys() - before["process"].keys():
        if f"{machine.MARK}=" in after["process"][key]:
            os.kill(int(key.partition("@")[0]), signal.SIGKILL)
    for key in sorted(after["cgroup"].keys() - before["cgroup"].keys(), reverse=True):
        try:
            os.rmdir(key)
        except OSError:
            pass  # not empty: not ours
    time.sleep(0.2)
    return machine.left_over(before, machine.inventory())


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures Orlop beside its peers on this machine.")
    parser.add_argument("suite", nargs="*", default=["cli", "start", "memory", "pull"], help="cli, start, memory, pull")
    parser.add_argument("--peers", default=",".join(peer.name for peer in PEERS), help="engines, separated by commas")
    parser.add_argument("--rounds", type=int, default=15, help="rounds of the quick suites; pulls take 1/3 and 1/5")
    parser.add_argument("--budget", type=float, default=1200, help="seconds after which no new round begins")
    parser.add_argument("--no-write", action="store_true", help=f"leave {DOCUMENT.name} as it is")
    options = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root: mounts, containers")
    if "ORLOP_BENCH_INNER" not in os.environ:  # a mount namespace of our own: no mount outlives us
        os.environ["ORLOP_BENCH_INNER"] = "1"
        os.execvp("unshare", ["unshare", "-m", "--propagation", "private", sys.executable, *sys.argv])
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)  # engines leave directories there
    os.environ.setdefault(machine.MARK, "bench")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    before = machine.inventory()
    with ExitStack() as stack:
        bench, text = measure(stack, options)
    for line in clear(before):
        print(f"left behind: {line}", file=sys.stderr)
    print(f"\n{text}")
    if not options.no_write:
        head, _, rest = DOCUMENT.read_text().partition(BEGIN)
        DOCUMENT.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    return 0 if all("orlop" in row.samples for row in bench.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
