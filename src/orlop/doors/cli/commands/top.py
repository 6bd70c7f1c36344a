"""`orlop top`."""

from __future__ import annotations

from ....engine import lifecycle
from .. import tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation

HEADERS = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")


def main(cli: Invocation) -> int:
    found = lifecycle.processes(cli.engine.containers.get(cli.args[0]))
    rows = [[p.uid, str(p.pid), str(p.ppid), str(p.cpu), p.stime, p.tty, p.time, p.command] for p in found]
    cli.out(tables.render(HEADERS, rows, width=tables.terminal_width()))
    return 0
