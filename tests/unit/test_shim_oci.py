"""What OCI runtimes say when they fail, and what it means. The sayings are those of crun 1.8 and runc 1.1."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.services.shim import oci


def line(msg: str, level: str = "error") -> bytes:
    return json.dumps({"msg": msg, "level": level, "time": "2026-01-01T00:00:00Z"}).encode() + b"\n"


@pytest.mark.parametrize(
    "msg",
    [
        "executable file `nope` not found in $PATH: No such file or directory",
        'runc create failed: unable to start container process: exec: "nope": executable file not found in $PATH',
        'exec failed: unable to start container process: exec: "/no/x": stat /no/x: no such file or directory',
        "exec container process `/script`: No such file or directory",
    ],
)
def test_a_command_that_is_not_there(msg: str) -> None:
    error = oci.failure("x create", 1, line(msg), b"")
    assert type(error) is errors.CommandNotFound
    assert error.message == msg


@pytest.mark.parametrize(
    "msg",
    [
        "open executable: Permission denied",
        "open executable: Operation not permitted",
        'runc create failed: unable to start container process: exec: "/bin/plain": permission denied',
        "exec container process `/x`: Exec format error",
    ],
)
def test_a_command_that_cannot_be_executed(msg: str) -> None:
    assert type(oci.failure("x create", 1, line(msg), b"")) is errors.CommandNotExecutable


@pytest.mark.parametrize(
    "msg",
    [
        "mount `/nowhere` to `data`: No such file or directory",
        'error mounting "/nowhere" to rootfs at "/data": stat /nowhere: no such file or directory',
        "cannot open `/run/crun/x/exec.fifo`: Permission denied",
        "writing file `/sys/fs/cgroup/pids.max`: Permission denied",
    ],
)
def test_what_has_nothing_to_do_with_the_command_is_the_runtimes_failure(msg: str) -> None:
    error = oci.failure("crun create", 1, line(msg), b"")
    assert type(error) is errors.RuntimeFailed
    assert error.message == f"crun create: {msg}"


def test_the_last_error_of_the_log_counts_and_warnings_only_when_alone() -> None:
    log = line("first") + line("careful", "warning") + line("second") + line("by the way", "warning") + b"not json\n"
    assert oci.failure("c", 1, log, b"").message == "c: second"
    assert oci.failure("c", 1, line("careful", "warning"), b"x").message == "c: careful"


def test_without_a_log_the_standard_error_is_the_reason() -> None:
    assert oci.failure("c", 1, b"", b"  oh\n\n dear\x1b[0m\n").message == "c: oh dear\N{REPLACEMENT CHARACTER}[0m"
    assert "gave no reason" in oci.failure("c", 1, b"", b"").message
    assert "signal 9" in oci.failure("c", 137, b"", b"").message


@settings(max_examples=100)
@given(st.binary(max_size=300), st.binary(max_size=300), st.integers(1, 255))
def test_any_rubbish_makes_one_printable_line_of_bounded_length(log: bytes, stderr: bytes, status: int) -> None:
    message = oci.failure("c", status, log, stderr * 20).message
    assert message.isprintable()
    assert len(message) < 1100


@pytest.mark.parametrize(
    ("stderr", "status"),
    [
        (b"exec /bin/x: exec format error\n", 126),
        (b"exec /bin/x: permission denied", 126),
        (b"exec /bin/x: no such file or directory\n", 127),
        (b"exec: Exec format error\n", 126),
        (line("exec container process `/bin/x`: Exec format error"), 126),
        (line("exec container process `/bin/x`: No such file or directory"), 127),
        (b"sh: exec: line 1: x: not found\n", None),
        (b"exec /bin/x: exec format error\nand more\n", None),
        (b"cat: x: No such file or directory\n", None),
        (b'{"msg":broken', None),
    ],
)
def test_a_failed_execve_is_known_by_all_the_process_ever_said(stderr: bytes, status: int | None) -> None:
    assert oci.exec_failure_status(stderr) == status
