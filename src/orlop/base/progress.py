"""The one sink interface for progress of long work (DESIGN §1.5): who does the work reports, who shows it decides how.

Reports may come from several threads at once and many times a second; a sink rate-limits itself.
"""

from __future__ import annotations

from .record import Record


class Report(Record):
    """One thing's progress.

    item: what moves, stable for its life (a digest, a reference, a file name).
    action: "resolving", "waiting", "downloading", "unpacking", "uploading", "exists", "mounted", "done", "failed", …
    current, total: bytes; total is None while it is not known.
    """

    item: str
    action: str
    current: int = 0
    total: int | None = None
    detail: str = ""


class Sink:
    """Receives reports; this one drops them."""

    def report(self, report: Report) -> None:
        """Take one report; must not raise and must not block."""


SILENT = Sink()
