"""`orlop stats`."""

from __future__ import annotations

import os

from ....engine import lifecycle
from .. import human, tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ....engine.containers import Container
    from ....engine.lifecycle import Sample
    from ..main import Invocation

HEADERS = {
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "CPUPerc": "CPU %",
    "MemUsage": "MEM USAGE / LIMIT",
    "MemPerc": "MEM %",
    "NetIO": "NET I/O",
    "BlockIO": "BLOCK I/O",
    "PIDs": "PIDS",
}


def _row(container: Container, before: Sample | None, now: Sample | None, full: bool) -> dict[str, Any]:
    row = {
        "ID": container.id if full else container.short_id,
        "Container": container.short_id,
        "Name": container.name,
        "CPUPerc": "--",
        "MemUsage": "-- / --",
        "MemPerc": "--",
        "NetIO": "--",
        "BlockIO": "--",
        "PIDs": "--",
    }
    if now is None:
        return row
    if before is not None and now.cpu_ns is not None and before.cpu_ns is not None and now.at_ns > before.at_ns:
        row["CPUPerc"] = f"{100 * (now.cpu_ns - before.cpu_ns) / (now.at_ns - before.at_ns):.2f}%"
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = min(now.memory_limit or total, total)
    if now.memory is not None:
        row["MemUsage"] = f"{human.binary_size(now.memory)} / {human.binary_size(limit)}"
        row["MemPerc"] = f"{100 * now.memory / limit:.2f}%"
    row["BlockIO"] = f"{human.size(now.read_bytes or 0)} / {human.size(now.write_bytes or 0)}"
    row["NetIO"] = "0B / 0B"
    row["PIDs"] = str(now.pids if now.pids is not None else "--")
    return row


def _chosen(cli: Invocation) -> Sequence[Container]:
    if cli.args:
        return [cli.engine.containers.get(text) for text in cli.args]
    return cli.engine.containers.list(all=bool(cli.flags.get("all")))


def main(cli: Invocation) -> int:
    flags = cli.flags
    full, once = bool(flags.get("no-trunc")), bool(flags.get("no-stream"))
    containers = _chosen(cli)
    before: dict[str, Sample] = {}
    on_terminal = os.isatty(1) and not flags.get("format")
    for now in lifecycle.samples(containers):
        if not before:
            before = now
            if containers and now:
                continue  # a share of CPU needs two looks
        rows = [_row(c, before.get(c.id), now.get(c.id), full) for c in containers]
        if flags.get("format"):
            from .. import template

            text = template.render_list(flags["format"], rows, HEADERS)
        else:
            text = tables.render(list(HEADERS.values()), [[row[name] for name in HEADERS] for row in rows])
        if on_terminal and not once:
            text = f"\033[2J\033[H{text}"
        cli.out(text)
        if once:
            return 0
        before = now
        if not cli.args:
            containers = _chosen(cli)
    return 0
