"""Progress for people: bars with bytes, rate and time left on a terminal; plain lines elsewhere; nothing when quiet.

rich is imported only when a bar is drawn.
"""

from __future__ import annotations

import os
import threading
import time

from ...base.progress import Report, Sink
from . import human

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Self

_DONE = frozenset(("done", "exists", "downloaded", "mounted", "uploaded", "failed"))
_WORDS = {
    "resolving": "Resolving",
    "waiting": "Waiting",
    "downloading": "Downloading",
    "downloaded": "Download complete",
    "unpacking": "Unpacking",
    "exists": "Already exists",
    "mounted": "Mounted from another repository",
    "preparing": "Preparing",
    "uploading": "Uploading",
    "uploaded": "Uploaded",
    "reading": "Reading",
    "writing": "Writing",
    "done": "Complete",
    "failed": "Failed",
}


def short(item: str) -> str:
    """A digest as its first 12 digits; anything else as it is."""
    algorithm, colon, encoded = item.partition(":")
    return encoded[:12] if colon and algorithm in ("sha256", "sha512") else item


class Display(Sink):
    """A sink that shows progress on standard error. Use as a context manager."""

    def __init__(self, verb_done: str = "", quiet: bool = False) -> None:
        self._sink: Sink = Sink()
        if not quiet:
            self._sink = _Bars(verb_done) if os.isatty(2) else _Lines(verb_done)

    def report(self, report: Report) -> None:
        self._sink.report(report)

    def __enter__(self) -> Self:
        start = getattr(self._sink, "start", None)
        if start is not None:
            start()
        return self

    def __exit__(self, *exc: object) -> None:
        stop = getattr(self._sink, "stop", None)
        if stop is not None:
            stop()


class _Lines(Sink):
    """One line for each change of what is done to a thing, as Docker prints without a terminal."""

    def __init__(self, verb_done: str) -> None:
        self._last: dict[str, str] = {}
        self._started: dict[str, float] = {}
        self._verb_done = verb_done
        self._guard = threading.Lock()

    def report(self, report: Report) -> None:
        with self._guard:
            if self._last.get(report.item) == report.action:
                return
            self._last[report.item] = report.action
            self._started.setdefault(report.item, time.monotonic())
            if report.action in ("waiting", "preparing", "resolving") or ":" not in report.item or "/" in report.item:
                return
            text = _WORDS.get(report.action, report.action)
            if report.action == "done" and self._verb_done:
                text = self._verb_done
            if report.action in _DONE and report.total and report.action != "exists":
                seconds = max(time.monotonic() - self._started[report.item], 1e-6)
                text += f" ({human.size(report.total)}, {human.size(int(report.total / seconds))}/s)"
            line = f"{short(report.item)}: {text}\n".encode()
        try:
            os.write(2, line)
        except OSError:
            pass


class _Bars(Sink):
    """A bar for each thing that moves."""

    _EVERY_S = 0.1

    def __init__(self, verb_done: str) -> None:
        self._verb_done = verb_done or "Complete"
        self._tasks: dict[str, Any] = {}
        self._shown: dict[str, tuple[str, float]] = {}
        self._progress: Any = None
        self._guard = threading.Lock()

    def start(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )

        self._progress = Progress(
            TextColumn("{task.description}"),
            TextColumn("{task.fields[action]:<18}"),
            BarColumn(bar_width=30),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            refresh_per_second=8,
        )
        self._progress.start()

    def report(self, report: Report) -> None:
        if self._progress is None or report.total is None:
            return
        now = time.monotonic()
        with self._guard:
            action, at = self._shown.get(report.item, ("", 0.0))
            if action == report.action and now - at < self._EVERY_S and report.current < report.total:
                return
            self._shown[report.item] = (report.action, now)
            words = self._verb_done if report.action == "done" else _WORDS.get(report.action, report.action)
            task = self._tasks.get(report.item)
            if task is None:
                task = self._tasks[report.item] = self._progress.add_task(
                    short(report.item), total=report.total or 1, action=words
                )
            current = report.total or 1 if report.action in _DONE else report.current
            self._progress.update(task, completed=current, total=report.total or 1, action=words)

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
