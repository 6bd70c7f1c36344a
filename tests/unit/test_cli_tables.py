"""Tables are laid out as Docker's tabwriter lays them out."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.doors.cli import tables


def test_columns_are_three_blanks_apart_and_at_least_ten_wide() -> None:
    text = tables.render(
        ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"],
        [
            ["alpine", "latest", "1d34ffeaf190", "3 weeks ago", "7.79MB"],
            ["registry.example/some/thing", "v1", "aaaaaaaaaaaa", "2 hours ago", "1.2GB"],
        ],
    )
    assert text == (
        "REPOSITORY                    TAG       IMAGE ID       CREATED       SIZE\n"
        "alpine                        latest    1d34ffeaf190   3 weeks ago   7.79MB\n"
        "registry.example/some/thing   v1        aaaaaaaaaaaa   2 hours ago   1.2GB"
    )


def test_an_empty_table_is_its_header() -> None:
    header = ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]
    assert tables.render(header, []) == "CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES"
    assert tables.align([]) == []
    assert tables.align([[]]) == [""]


def test_an_empty_cell_keeps_its_column_and_lines_end_without_blanks() -> None:
    assert tables.align([["A", "B", "C"], ["a", "", "c"], ["a", "b", ""], ["", "", ""]]) == [
        "A         B         C",
        "a                   c",
        "a         b",
        "",
    ]


def test_a_column_is_a_run_of_rows_that_go_on_after_it() -> None:
    assert tables.align([["wide wide wide", "x"], ["alone in its row"], ["a", "x", "y"], ["b", "xxxxxxxxxx"]]) == [
        "wide wide wide   x",
        "alone in its row",
        "a         x         y",
        "b         xxxxxxxxxx",
    ]


def test_wide_and_combining_characters_take_their_cells() -> None:
    assert tables.cell_width("日本") == 4
    assert tables.cell_width("e\u0301é") == 2
    assert tables.cell_width("😀") == 2
    assert tables.align([["日本語です", "x"], ["abc", "y"]]) == ["日本語です   x", "abc          y"]


def test_control_characters_cannot_leave_their_cell() -> None:
    assert tables.render(["A", "B"], [["a\nb\tc", "\x1b[2J"]]) == "A         B\na\\nb\\tc   \\x1b[2J"


@pytest.mark.parametrize(
    ("text", "cells", "cut"),
    [
        ("/bin/sh -c 'while true; do'", 20, "/bin/sh -c 'while t…"),
        ("exactly twenty chars", 20, "exactly twenty chars"),
        ("abc", 3, "abc"),
        ("abcd", 3, "ab…"),
        ("ab", 1, "…"),
        ("ab", 0, ""),
        ("日本語", 5, "日本…"),
        ("日本語", 4, "日…"),
        ("日本語", 6, "日本語"),
    ],
)
def test_text_is_cut_with_an_ellipsis(text: str, cells: int, cut: str) -> None:
    assert tables.ellipsis(text, cells) == cut
    assert tables.cell_width(cut) <= max(cells, 0)


def test_a_table_is_fitted_to_a_terminal_by_cutting_its_widest_columns() -> None:
    rows = [["0123456789ab", "registry.example/a/very/long/name", "sh -c 'something long'", "n"]]
    header = ["CONTAINER ID", "IMAGE", "COMMAND", "NAMES"]
    free = tables.render(header, rows)
    assert tables.render(header, rows, width=200) == free
    fitted = tables.render(header, rows, width=60, keep=(0, 3)).split("\n")
    assert max(map(tables.cell_width, fitted)) <= 60
    assert fitted[1].startswith("0123456789ab   registry.examp")
    assert "…" in fitted[1]
    assert fitted[0].split() == ["CONTAINER", "ID", "IMAGE", "COMMAND", "NAMES"]
    narrow = tables.render(header, rows, width=1, keep=(0,)).split("\n")
    assert narrow[1].startswith("0123456789ab   registry.…   sh -c 'so…")


def test_what_is_no_terminal_has_no_width() -> None:
    read, write = os.pipe()
    try:
        assert tables.terminal_width(write) is None
    finally:
        os.close(read)
        os.close(write)


_cells = st.text(alphabet="ab 日\u0301é", max_size=15)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(_cells, min_size=3, max_size=3), max_size=5), st.integers(20, 60))
def test_every_column_starts_in_one_cell(rows: list[list[str]], width: int) -> None:
    marked = [[f"<{cell}>" for cell in row] for row in rows]
    lines = tables.align(marked)
    for number in range(3):
        starts = set()
        for line, row in zip(lines, marked, strict=True):
            at = -1
            for cell in row[: number + 1]:
                at = line.index(cell, at + 1)
            starts.add(tables.cell_width(line[:at]))
        assert len(starts) <= 1
    cut = tables.render(["A", "B", "C"], rows, width=max(width, 40)).split("\n")
    assert all(tables.cell_width(line) <= max(width, 40) for line in cut)


def test_tables_import_nothing_dear() -> None:
    code = (
        "import sys; before = set(sys.modules)\n"
        "from orlop.doors.cli import tables, human\n"
        "tables.render(['A'], [['b']]); human.rfc3339(0); human.parse_size('1m'); human.duration(5)\n"
        "print(sorted({'re', 'typing', 'json', 'datetime', 'unicodedata', 'dataclasses', 'enum', 'decimal'}"
        " & (set(sys.modules) - before)))"
    )
    path = {"PYTHONPATH": os.path.dirname(os.path.dirname(sys.modules["orlop"].__file__ or ""))}
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, timeout=30, env=path)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
