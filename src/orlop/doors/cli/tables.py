"""Tables in columns, laid out as Docker's: Go's tabwriter with cells at least 10 wide, 3 blanks of it padding.

On the hot path of `ps` and `images`; Unicode's tables are loaded only for text that is not ASCII. Formats text; prints
nothing itself.
"""

from __future__ import annotations

from .human import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

MIN_WIDTH = 10
PADDING = 3
ELLIPSIS = "…"


def cell_width(text: str) -> int:
    """How many terminal cells text takes: wide East Asian characters two, combining ones none."""
    return len(text) if text.isascii() else sum(map(_character_width, text))


def _character_width(character: str) -> int:
    import unicodedata

    if character < "\u0300":
        return 1
    if unicodedata.combining(character) or unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in ("W", "F") else 1


def ellipsis(text: str, cells: int) -> str:
    """Text cut to at most so many cells, its end replaced by "…" if it was longer."""
    if cells <= 0:
        return ""
    if cell_width(text) <= cells:
        return text
    kept, used = 0, 0
    for character in text:
        used += _character_width(character)
        if used > cells - 1:
            break
        kept += 1
    return text[:kept] + ELLIPSIS


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows' lines, columns aligned; no blanks at the ends of lines.

    As in Go's tabwriter, a column is a run of adjacent rows that have a cell there and another after it; the last cell
    of a row takes no part.
    """
    widths: list[list[int]] = [[cell_width(cell) for cell in row] for row in rows]
    columns = max((len(row) for row in rows), default=0) - 1
    pads: list[list[int]] = [[] for _ in rows]
    for column in range(columns):
        start = 0
        while start < len(rows):
            end = start
            while end < len(rows) and len(rows[end]) > column + 1:
                end += 1
            if end > start:
                width = max(MIN_WIDTH, PADDING + max(widths[n][column] for n in range(start, end)))
                for n in range(start, end):
                    pads[n].append(width - widths[n][column])
            start = max(end, start + 1)
    lines = []
    for row, blanks in zip(rows, pads):
        line = "".join(cell + " " * blank for cell, blank in zip(row, blanks)) + (row[-1] if row else "")
        lines.append(line.rstrip(" "))
    return lines


def render(
    headers: Sequence[str], rows: Sequence[Sequence[str]], *, width: int | None = None, keep: Collection[int] = ()
) -> str:
    """A table with its header line; lines are joined by newlines, with none at the end.

    Control characters in cells are escaped. width: cells of the terminal to fit into by cutting the widest columns
    with "…" (see `terminal_width`), or None to cut nothing. keep: numbers of columns that are never cut. No column is
    cut below its header or 10 cells; a table that still does not fit stays too wide.
    """
    cells: list[Sequence[str]] = [headers, *([visible(cell) for cell in row] for row in rows)]
    if width is not None and headers:
        cells = _fit(cells, width, keep)
    return "\n".join(align(cells))


def _fit(cells: list[Sequence[str]], width: int, keep: Collection[int]) -> list[Sequence[str]]:
    count = len(cells[0])
    widths = [max(cell_width(row[n]) for row in cells) for n in range(count)]
    floors = [w if n in keep else min(w, max(MIN_WIDTH, cell_width(cells[0][n]))) for n, w in enumerate(widths)]
    limits = list(widths)

    def total() -> int:
        return sum(max(MIN_WIDTH, limit + PADDING) for limit in limits[:-1]) + limits[-1]

    while total() > width:
        widest = max(range(count), key=lambda n: limits[n] if limits[n] > floors[n] else -1)
        if limits[widest] <= floors[widest]:
            break
        limits[widest] -= 1
    if limits == widths:
        return cells
    return [[ellipsis(cell, limits[n]) for n, cell in enumerate(row)] for row in cells]


def terminal_width(fd: int = 1) -> int | None:
    """The width of the terminal behind a descriptor in cells; None when it is not a terminal."""
    import os

    try:
        return os.get_terminal_size(fd).columns or None
    except OSError:
        return None
