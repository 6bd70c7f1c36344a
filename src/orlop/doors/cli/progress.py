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
            moving = os.isatty(2) and os.environ.get("TERM", "dumb") != "dumb"
            self._sink = _Bars(verb_done) if moving else _Lines(verb_done)

    def report(self, report: Report) -> None:
        self._sink.report(report)

    def __enter__(self) -> Self:
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
    """A bar for each thing that moves; of one that is done only the word for that is left, as Docker leaves it."""

    _EVERY_S = 0.1

    def __init__(self, verb_done: str) -> None:
        self._verb_done = verb_done or "Complete"
        self._tasks: dict[str, Any] = {}
        self._shown: dict[str, tuple[str, float]] = {}
        self._progress: Any = None
        self._guard = threading.Lock()

    def _start(self) -> Any:
        from rich import progress as bars
        from rich.console import Console
        from rich.table import Column
        from rich.text import Text

        class WhileMoving(bars.ProgressColumn):
            """Another column's text, as long as there is something to wait for."""

            max_refresh = 0.2

            def __init__(self, column: bars.ProgressColumn) -> None:
                self._column = column
                super().__init__(Column(no_wrap=True))

            def render(self, task: bars.Task) -> Any:
                return Text("") if task.finished or not task.completed else self._column.render(task)

        console = Console(stderr=True)
        progress = bars.Progress(
            bars.TextColumn("{task.description}:", table_column=Column(no_wrap=True)),
            bars.TextColumn("{task.fields[action]}", table_column=Column(no_wrap=True)),
            WhileMoving(bars.BarColumn(bar_width=max(5, min(30, console.width - 62)))),
            WhileMoving(bars.DownloadColumn()),
            WhileMoving(bars.TransferSpeedColumn()),
            WhileMoving(bars.TimeRemainingColumn(compact=True)),
            console=console,
            refresh_per_second=8,
        )
        progress.start()
        return progress

    def report(self, report: Report) -> None:
        if report.total is None:
            return
        now = time.monotonic()
        with self._guard:
            if self._progress is None:
                self._progress = self._start()
            action, at = self._shown.get(report.item, ("", 0.0))
            if action == report.action and now - at < self._EVERY_S and report.current < report.total:
                return
            self._shown[report.item] = (report.action, now)
            words = self._verb_done if report.action == "done" else _WORDS.get(report.action, report.action)
            total = report.total or 1
            if report.action not in _DONE:
                # A thing of which all is here may still be unpacked: only a word for its end makes it finished.
                total, current = total + 1, min(report.current, total)
            else:
                current = total
            task = self._tasks.get(report.item)
            if task is None:
                task = self._tasks[report.item] = self._progress.add_task(short(report.item), total=total, action=words)
            self._progress.update(task, completed=current, total=total, action=words)

    def stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
