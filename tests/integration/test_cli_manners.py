"""How the command line behaves whatever it is asked: help, errors in three lines, streams that are closed or full."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.doors.cli import table
from tests.support import orlops
from tests.support.orlops import IMAGE, ORLOP, Orlop


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "cli-manners") as opened:
        opened.import_busybox()
        yield opened


def shell(orlop: Orlop, line: str) -> subprocess.CompletedProcess[bytes]:
    env = {**orlop.env, "ORLOP": " ".join(ORLOP)}
    return subprocess.run(["bash", "-c", line], env=env, capture_output=True, timeout=60)


def test_no_argument_and_dash_h_print_help_and_succeed(orlop: Orlop) -> None:
    text = orlop.out()
    assert text.startswith("Usage:  orlop [OPTIONS] COMMAND")
    assert orlop.out("-h") == orlop.out("help") == orlop.out("--help") == text
    assert orlop.out("ps", "-h") == orlop.out("help", "container", "ls") == orlop.out("ps", "--help")


def test_help_fits_into_80_columns(orlop: Orlop) -> None:
    names = [name for name in table.COMMANDS if not name.startswith("_")]
    for argv in ([], *(name.split("_") for name in names), *([group] for group in table.GROUPS)):
        for line in orlop.out(*argv, "--help").splitlines():
            assert len(line) <= 80, (argv, line)


def test_a_mistyped_word_gets_a_suggestion(orlop: Orlop) -> None:
    assert b"did you mean 'inspect'?" in orlop.run("inspcet", "x", code=125).stderr
    assert b"is not an orlop command\n" in orlop.run("volume_ls", code=125).stderr
    assert b"See 'orlop volume ls --help'." in orlop.run("volume", "ls", "--bogus", code=125).stderr
    assert b"did you mean 'inspect'?" in orlop.run("container", "inspcet", "x", code=125).stderr


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (["import", "/nowhere/at/all"], 1),
        (["load", "-i", "/nowhere/at/all"], 1),
        (["save", "-o", "/nowhere/at/all", IMAGE], 1),
        (["run", "--device", "/dev/nowhere", IMAGE], 125),
        (["container", "run", "--cidfile", "/nowhere/at/all", IMAGE], 125),
        (["--root", "/etc/passwd", "ps"], 1),
        (["--root", "/etc/passwd/x", "run", IMAGE], 125),
        (["pull", "127.0.0.1:1/nothing"], 1),
        (["logs", "--since", "1e400", "x"], 1),
    ],
)
def test_an_error_is_three_lines_at_most_and_says_a_reason_once(orlop: Orlop, argv: list[str], code: int) -> None:
    lines = orlop.run(*argv, code=code).stderr.decode().splitlines()
    assert lines[0].startswith("orlop: ") or lines[0].startswith("Using default tag")
    lines = [line for line in lines if not line.startswith("Using default tag")]
    assert len(lines) <= 3
    assert not any("Errno" in line or "Traceback" in line for line in lines)
    assert "\n".join(lines).count("No such file or directory") <= 1


def test_a_fault_of_ours_is_told_as_one_and_debug_shows_where() -> None:
    code = (
        "import sys; from orlop.doors.cli import main; from orlop.doors.cli.commands import version\n"
        "version.facts = lambda: 1 / 0\n"
        "sys.exit(main.main(sys.argv[1:]))"
    )

    def run(*argv: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run([sys.executable, "-c", code, *argv], capture_output=True, timeout=60)

    done = run("version")
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert lines[0] == "orlop: unexpected ZeroDivisionError: division by zero"
    assert len(lines) == 2
    assert "report it" in lines[1]
    assert b"Traceback" in run("--debug", "version").stderr


def test_a_reader_that_goes_away_ends_the_command_quietly(orlop: Orlop) -> None:
    done = shell(orlop, f"$ORLOP ps -a | head -0; echo ${{PIPESTATUS[0]}}; $ORLOP save {IMAGE} | head -c 9 | wc -c")
    assert done.stdout.split() in ([b"141", b"9"], [b"0", b"9"])
    assert done.stderr == b""


def test_a_full_device_is_an_error_of_one_reason(orlop: Orlop) -> None:
    for command in ("ps", f"save {IMAGE}"):
        done = shell(orlop, f"$ORLOP {command} > /dev/full")
        assert done.returncode == 1
        assert b"No space left on device" in done.stderr
        assert len(done.stderr.splitlines()) <= 3


def test_closed_standard_streams_harm_nothing(orlop: Orlop) -> None:
    before = orlop.out("images", "--format", "{{.Repository}}")
    for command in ("ps -a", "images", f"save {IMAGE}", f"run --rm {IMAGE} true", "gc", "info"):
        assert shell(orlop, f"$ORLOP {command} <&- >&- 2>&-").returncode == 0, command
    assert orlop.out("images", "--format", "{{.Repository}}") == before
    assert orlop.out("ps", "-aq") == ""


def test_someone_else_than_root_is_told_so(orlop: Orlop, tmp_path: Path) -> None:
    code = (
        "import os, sys, traceback\n"  # whoever that is may not read where Python lies: all is loaded before
        "from orlop.doors.cli import main\n"
        "os.environ['ORLOP_ROOT'], other = sys.argv[1], os.environ['ORLOP_ROOT']\n"
        "main.main(['ps', '-a'])\n"
        "os.environ['ORLOP_ROOT'] = other\n"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "sys.exit(main.main(['ps', '-a']))"
    )
    argv = [sys.executable, "-c", code, str(tmp_path / "another")]
    done = subprocess.run(argv, env=orlop.env, capture_output=True, timeout=60)
    assert done.returncode == 1
    lines = done.stderr.decode().splitlines()
    assert "ermission denied" in lines[0]
    assert "as root" in lines[-1]
    assert len(lines) <= 3


def test_a_root_that_cannot_be_written_says_why(orlop: Orlop, tmp_path: Path) -> None:
    mounted = tmp_path / "read-only"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro,size=64k", "none", str(mounted)], check=True)
    try:
        text = orlop.run("--root", str(mounted), "ps", code=1).stderr.decode()
    finally:
        subprocess.run(["umount", str(mounted)], check=True)
    assert "Read-only file system" in text
    assert len(text.splitlines()) <= 3
    assert "is not a directory" in orlop.run("--root", os.path.abspath(__file__), "ps", code=1).stderr.decode()
