"""Terminals at the monitor: the console socket, sizes, several clients, FIFOs, what is left behind."""

from __future__ import annotations

import os
import signal
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from orlop.base import errors, jsonio
from orlop.base.cancel import Cancel
from orlop.base.kernel import terminal
from orlop.base.ttrpc import task_v2
from orlop.base.ttrpc.wire import AnyMessage, Empty
from orlop.services.runtime import tasks
from tests.support import bundle as bundles
from tests.support.shim import Place, until


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = bundles.rootfs(tmp_path_factory.mktemp("rootfs"))
    for name in ("stty", "tty", "test"):
        (made / "bin" / name).symlink_to("busybox")
    return made


@pytest.fixture(params=["crun", "runc"])
def place(request: pytest.FixtureRequest, tmp_path: Path, rootfs: Path) -> Iterator[Place]:
    one = Place(tmp_path, rootfs, request.param)
    yield one
    one.close()
    one.check_clean()


@pytest.fixture
def crun(tmp_path: Path, rootfs: Path) -> Iterator[Place]:
    one = Place(tmp_path, rootfs, "crun")
    yield one
    one.close()
    one.check_clean()


def with_terminal(place: Place, *args: str, stdin: bool = True, terminal: bool = True) -> tasks.Task:
    """A created container whose process has a terminal (or only could have)."""
    container_id = f"t{os.urandom(6).hex()}"
    config = bundles.spec(list(args), container_id=container_id, terminal=terminal)
    config["mounts"].append(
        {
            "destination": "/dev/pts",
            "type": "devpts",
            "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
        }
    )
    made = place.bundle(args, container_id=container_id, config=config, open_stdin=stdin)
    return tasks.create(place.spawner, str(made), place.mounts, terminal=terminal)


def idle(place: Place) -> tasks.Task:
    """A running container whose execs can have terminals."""
    task = with_terminal(place, "sleep", "1000", terminal=False)
    task.start()
    return task


def read_until(attachment: tasks.Attachment, wanted: bytes) -> bytes:
    found = b""
    for stream, data in attachment.frames(Cancel(30)):
        assert stream == "stdout"
        found += data
        if wanted in found:
            return found
    raise AssertionError(f"{wanted!r} never came: {found!r}")


def rest(attachment: tasks.Attachment) -> bytes:
    with attachment:
        return b"".join(data for _, data in attachment.frames(Cancel(30)))


def state_of(task: tasks.Task, exec_id: str = "") -> Any:
    return task._call("State", task_v2.StateRequest(task.id, exec_id), task_v2.StateResponse, Cancel(30))


def test_a_size_set_before_the_start_is_there_when_it_starts(place: Place) -> None:
    for by_attach in (False, True):
        task = with_terminal(place, "stty", "size")
        assert state_of(task).terminal
        if not by_attach:
            task.resize(123, 45)
        attachment = task.attach(owner=True, size=(123, 45) if by_attach else None)
        task.start()
        assert rest(attachment) == b"45 123\r\n"
        assert task.wait() == 0


def test_an_exec_has_a_terminal_whose_size_can_be_set_before_it_starts(place: Place) -> None:
    task = idle(place)
    script = "test -t 0 && test -t 2 && while ! [ \"$(stty size)\" = '12 34' ]; do :; done; read line; echo got-$line"
    task.exec("one", bundles.process(["sh", "-c", script], terminal=True), stdin=True)
    task.resize(34, 12, "one")
    attachment = task.attach("one", stdin=True, owner=True)
    attachment.send(b"typed ahead\n")
    task.start("one")
    assert state_of(task, "one").terminal
    assert not state_of(task).terminal
    assert b"got-typed ahead\r\n" in rest(attachment)
    assert task.wait(exec_id="one") == 0


def test_every_client_sees_it_and_may_type(crun: Place) -> None:
    task = with_terminal(crun, "sh", "-c", "stty -echo; echo ready; read a; read b; echo $a-$b")
    clients = [task.attach(stdin=True, owner=index == 0) for index in range(3)]
    task.start()
    for client in clients:
        read_until(client, b"ready\r\n")
    clients[1].send(b"one\n")
    clients[2].send(b"two\n")
    assert [rest(client).count(b"-") for client in clients] == [1, 1, 1]
    assert task.wait() == 0


def test_the_end_of_a_clients_input_is_not_the_terminals(crun: Place) -> None:
    task = with_terminal(crun, "cat")
    first = task.attach(stdin=True, owner=True)
    task.start()
    first.close_stdin()
    task.close_stdin()
    first.close()
    second = task.attach(stdin=True, owner=True)
    second.send(b"still here\n")
    read_until(second, b"still here\r\nstill here\r\n")
    second.send(b"\x04")
    assert rest(second) == b""
    assert task.wait() == 0


def test_a_client_that_does_not_read_holds_the_process_back_and_loses_nothing(crun: Place) -> None:
    task = with_terminal(crun, "sh", "-c", "stty raw; dd if=/dev/zero bs=64k count=64 2>/dev/null")
    slow = task.attach(owner=True)
    task.start()
    with pytest.raises(errors.DeadlineExceeded):
        task.wait(cancel=Cancel(0.5))
    assert rest(slow) == bytes(64 << 16)
    assert task.wait() == 0


def test_what_has_no_terminal_has_no_size(crun: Place) -> None:
    task = crun.run("sleep", "1000")
    with pytest.raises(errors.FailedPrecondition, match="no terminal"):
        task.resize(80, 24)
    with pytest.raises(errors.NotFound):
        task.resize(80, 24, "nonesuch")


def test_a_size_no_terminal_has_is_refused(crun: Place) -> None:
    task = with_terminal(crun, "true")
    for columns, rows in ((65536, 1), (1, 1 << 31)):
        with pytest.raises(errors.InvalidArgument, match="columns"):
            task.resize(columns, rows)


def test_fifos_carry_a_terminal_as_containerd_has_it(place: Place, tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("in", "out")]
    for path in paths:
        os.mkfifo(path)
    task = idle(place)
    out = os.open(paths[1], os.O_RDWR | os.O_NONBLOCK)
    spec = AnyMessage(
        task_v2.PROCESS_TYPE, jsonio.dump_bytes(bundles.process(["sh", "-c", "read a; echo =$a"], terminal=True))
    )
    request = task_v2.ExecProcessRequest(task.id, "x", True, paths[0], paths[1], "", spec)
    task._call("Exec", request, Empty, Cancel(30))
    task.start("x")
    writer = os.open(paths[0], os.O_WRONLY)
    os.write(writer, b"hi\n")
    os.close(writer)
    found = b""

    def came() -> bool:
        nonlocal found
        try:
            found += os.read(out, 4096)
        except BlockingIOError:
            pass
        return b"hi\r\n=hi\r\n" in found

    until(came, "the answer")
    os.close(out)
    assert task.wait(exec_id="x") == 0


def test_a_command_that_cannot_run_leaves_no_terminal(place: Place) -> None:
    before = int(Path("/proc/sys/kernel/pty/nr").read_text())
    with pytest.raises(errors.CommandNotFound):
        with_terminal(place, "/nonesuch").start()
    task = idle(place)
    task.exec("bad", bundles.process(["/nonesuch"], terminal=True))
    with pytest.raises(errors.CommandNotFound):
        task.start("bad")
    task.delete(exec_id="bad")
    place.close()
    until(lambda: int(Path("/proc/sys/kernel/pty/nr").read_text()) <= before, "the terminals to go")


def test_state_directories_of_any_depth_are_fine(place: Place, tmp_path: Path, rootfs: Path) -> None:
    deep = tmp_path / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    there = Place(deep, rootfs, place.runtime)
    try:
        task = with_terminal(there, "tty")
        attachment = task.attach(owner=True)
        task.start()
        assert b"/dev/" in rest(attachment)
    finally:
        there.close()
    there.check_clean()


def test_a_monitor_that_takes_over_has_no_terminal_and_clears_up(crun: Place) -> None:
    task = with_terminal(crun, "sh", "-c", "trap '' HUP; exec sleep 1000")
    task.start()
    stale = Path(task.address.removeprefix("unix://").removesuffix("sock") + "7")
    stale.touch()
    reply = task._call("Connect", task_v2.ConnectRequest(task.id), task_v2.ConnectResponse, Cancel(30))
    os.kill(reply.shim_pid, signal.SIGKILL)
    until(lambda: not Path(f"/proc/{reply.shim_pid}").exists(), "the monitor's end")
    taken_over = tasks.recover(crun.spawner, task.bundle)
    assert not stale.exists()
    with pytest.raises(errors.FailedPrecondition, match="no terminal"):
        taken_over.resize(80, 24)


def test_a_terminals_size_attributes_and_owner() -> None:
    master, slave = os.openpty()
    try:
        assert terminal.size(slave) is None
        terminal.set_size(master, 132, 43)
        assert terminal.size(slave) == (132, 43)
        with pytest.raises(errors.InvalidArgument):
            terminal.set_size(master, -1, 3)
        before = terminal.attributes(slave)
        terminal.set_attributes(slave, terminal.raw(before))
        raw = terminal.attributes(slave)
        assert not raw[3] & (termios.ICANON | termios.ECHO | termios.ISIG)
        assert not raw[1] & termios.OPOST
        terminal.set_attributes(slave, before)
        assert terminal.attributes(slave) == before
        terminal.give(master, 1234)
        assert os.fstat(slave).st_uid == 1234
        terminal.give(master, 99)
        assert os.fstat(slave).st_uid == 1234, "it was not ours any more"
    finally:
        os.close(master)
        os.close(slave)


def test_what_is_no_terminal_says_so() -> None:
    read, write = os.pipe()
    try:
        assert terminal.size(read) is None
        with pytest.raises(OSError, match="ioctl"):
            terminal.attributes(read)
        with pytest.raises(OSError, match="ioctl"):
            terminal.set_size(read, 1, 1)
    finally:
        os.close(read)
        os.close(write)


def test_only_a_terminal_is_taken_from_a_socket() -> None:
    import array
    import socket

    master, slave = os.openpty()
    a, b = socket.socketpair()
    try:
        a.setblocking(False)
        with pytest.raises(BlockingIOError):
            terminal.receive(a)
        b.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [master, slave]))])
        taken = terminal.receive(a)
        assert os.isatty(taken)
        assert not os.get_inheritable(taken)
        os.close(taken)
        b.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [b.fileno()]))])
        with pytest.raises(errors.InvalidArgument):
            terminal.receive(a)
        b.close()
        assert terminal.receive(a) == -1
    finally:
        for fd in (master, slave):
            os.close(fd)
        a.close()
        b.close()
