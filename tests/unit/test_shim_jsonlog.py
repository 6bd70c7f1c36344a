"""The json-file log: Docker's lines, long lines, characters, rotation, a disk that refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orlop.base import fsio
from orlop.services.shim.jsonlog import MAX_LINE_BYTES, JsonLog

NOW = 1_700_000_000_000_000_001


def entries(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def make(path: Path, *args: int, **options: object) -> JsonLog:
    return JsonLog(str(path), *args, clock=lambda: NOW, **options)  # type: ignore[arg-type]


def test_an_entry_is_a_line_with_its_stream_and_time(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = make(path)
    log.write("stdout", b"hello\n")
    log.write("stderr", 'tab\t"q" \u00e9\n'.encode())
    log.close()
    assert path.read_text().splitlines()[0] == (
        '{"log":"hello\\n","stream":"stdout","time":"2023-11-14T22:13:20.000000001Z"}'
    )
    assert entries(path)[1]["log"] == 'tab\t"q" \u00e9\n'
    assert path.stat().st_mode & 0o777 == 0o640


def test_a_line_waits_for_its_end_and_the_last_needs_none(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = make(path)
    log.write("stdout", b"a")
    log.write("stderr", b"E\n")
    log.write("stdout", b"b\nrest")
    assert [(e["stream"], e["log"]) for e in entries(path)] == [("stderr", "E\n"), ("stdout", "ab\n")]
    log.end("stdout")
    log.end("stderr")
    assert entries(path)[2]["log"] == "rest"
    log.close()


def test_a_long_line_is_cut_every_16_kib(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = make(path)
    log.write("stdout", b"x" * (2 * MAX_LINE_BYTES + 10) + b"\n")
    log.write("stdout", b"y" * MAX_LINE_BYTES)
    log.close()
    assert [len(e["log"]) for e in entries(path)] == [MAX_LINE_BYTES, MAX_LINE_BYTES, 11, MAX_LINE_BYTES]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.text(alphabet="aé€😀\n", max_size=300).map(lambda t: t * 60), max_size=4),
    st.lists(st.integers(1, 20_000), max_size=10),
    st.sampled_from([0, 30_000]),
)
def test_text_is_logged_whole_whatever_the_pieces(
    tmp_path: Path, texts: list[str], cuts: list[int], max_size: int
) -> None:
    path = tmp_path / "log"
    for old in tmp_path.glob("log*"):
        old.unlink()
    data = "".join(texts).encode()
    log = make(path, max_size, 100)
    at = 0
    for cut in cuts:
        log.write("stdout", data[at : at + cut])
        at += cut
    log.write("stdout", data[at:])
    log.end("stdout")
    log.close()
    files = sorted(tmp_path.glob("log*"), key=lambda p: int(p.suffix[1:] or 0), reverse=True)
    found = [entry["log"] for file in files for entry in entries(file)]
    assert "".join(found).encode() == data
    assert all(len(text.encode()) <= MAX_LINE_BYTES + 1 for text in found)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200).map(lambda b: b * 200))
def test_bytes_that_are_no_text_still_make_valid_entries(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    log = make(path)
    log.write("stdout", data)
    log.close()
    if data:
        entries(path)


def test_rotation_keeps_so_many_files_of_so_many_bytes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = make(path, 500, 3)
    for number in range(40):
        log.write("stdout", f"line {number}\n".encode())
    log.close()
    files = [path, Path(f"{path}.1"), Path(f"{path}.2")]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(0 < file.stat().st_size <= 500 for file in files)
    found = [entry["log"] for file in reversed(files) for entry in entries(file)]
    assert found == [f"line {n}\n" for n in range(40 - len(found), 40)]


def test_with_one_file_rotation_starts_it_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = make(path, 200, 1)
    for number in range(10):
        log.write("stdout", f"line {number}\n".encode())
    log.close()
    assert list(tmp_path.iterdir()) == [path]
    assert entries(path)[-1]["log"] == "line 9\n"


def test_an_existing_log_is_gone_on_with(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in (b"one\n", b"two\n"):
        log = make(path)
        log.write("stdout", text)
        log.close()
    assert [entry["log"] for entry in entries(path)] == ["one\n", "two\n"]


def test_a_full_disk_is_noted_once_counted_and_recovered_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "log"
    notes: list[str] = []
    log = make(path, note=notes.append)
    log.write("stdout", b"before\n")
    whole = fsio.write_all

    def full(fd: int, data: bytes) -> None:
        os.write(fd, data[:5])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(fsio, "write_all", full)
    log.write("stdout", b"lost\nlost\n")
    log.write("stdout", b"lost\n")
    monkeypatch.setattr(fsio, "write_all", whole)
    log.write("stdout", b"after\n")
    log.close()
    assert log.lost == 3
    assert len(notes) == 1
    assert "No space left" in notes[0]
    assert [entry["log"] for entry in entries(path)] == ["before\n", "after\n"]


def test_a_log_that_cannot_be_opened_does_not_raise(tmp_path: Path) -> None:
    notes: list[str] = []
    log = make(tmp_path / "no/such/dir/log", note=notes.append)
    log.write("stdout", b"x\ny\n")
    log.close()
    assert (log.lost, len(notes)) == (2, 1)
