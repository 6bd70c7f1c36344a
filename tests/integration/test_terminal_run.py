"""`run -it`, `exec -it`, `start -ai` on a real terminal, by either OCI runtime."""

from __future__ import annotations

import contextlib
import os
import signal
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import orlops, ptys
from tests.support.orlops import IMAGE, ORLOP, Orlop
from tests.support.ptys import Person

PROMPT = rb"# "


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "terminal") as opened:
        opened.import_busybox()
        yield opened


@pytest.fixture(autouse=True)
def alone(orlop: Orlop) -> Iterator[None]:
    """What a test that failed has left is not the next one's trouble."""
    yield
    for container in orlop.engine.containers.list(all=True):
        container.remove(force=True)


@contextlib.contextmanager
def on_terminal(orlop: Orlop, *argv: str, columns: int = 80, rows: int = 24) -> Iterator[Person]:
    with ptys.person([*ORLOP, *argv], orlop.env, columns, rows) as person:
        yield person


@pytest.fixture(params=["crun", "runc"])
def runtime(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def monitor_of(orlop: Orlop, name: str) -> int:
    pid = int(orlop.out("inspect", "-f", "{{.State.Pid}}", name))
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_a_shell_prompts_echoes_and_ends_with_its_code(orlop: Orlop, runtime: str) -> None:
    with on_terminal(orlop, "run", "--rm", "-it", "--runtime", runtime, IMAGE, "sh") as person:
        person.sees(PROMPT)
        assert person.is_raw
        person.type(b"echo $((6 * 7))$TERM\n")
        person.sees(rb"echo \$\(\(6 \* 7\)\)\$TERM\r\n42xterm\r\n.*# ")
        person.type(b"exit 7\n")
        assert person.wait() == 7
        assert person.attributes() == person.before
    assert orlop.out("ps", "-aq") == ""


def test_all_three_streams_are_a_terminal(orlop: Orlop, runtime: str) -> None:
    script = "for n in 0 1 2; do test -t $n && echo $n-is; done; tty; ls -l /dev/console; echo err >&2"
    with on_terminal(orlop, "run", "--rm", "-it", "--runtime", runtime, IMAGE, "sh", "-c", script) as person:
        person.sees(rb"0-is\r\n1-is\r\n2-is\r\n/dev/(pts/0|console)\r\n.*/dev/console\r\nerr\r\n")
        assert person.wait() == 0


def test_the_size_is_there_from_the_start_and_follows(orlop: Orlop, runtime: str) -> None:
    script = "stty size; while read word; do stty size; done"
    with on_terminal(
        orlop, "run", "--rm", "-it", "--runtime", runtime, IMAGE, "sh", "-c", script, columns=101, rows=37
    ) as person:
        person.sees(rb"37 101\r\n")
        person.resize(90, 20)
        person.resize(111, 41)

        def shows() -> bool:
            person.type(b"\n")
            person.sees(rb"\d+ \d+\r\n")
            return person.screen.rstrip().endswith(b"41 111")

        person.until(shows, "the new size")
        person.type(b"\x04")
        assert person.wait() == 0


def test_ctrl_c_interrupts_the_containers_foreground_process(orlop: Orlop) -> None:
    with on_terminal(orlop, "run", "--rm", "-it", IMAGE, "sh") as person:
        person.sees(PROMPT)
        person.type(b"sleep 1000\n")
        person.sees(rb"sleep 1000\r\n")
        orlops.wait_for("the sleep", lambda: "sleep 1000" in orlop.out("exec", orlop.out("ps", "-q"), "ps"))
        person.type(b"\x03")
        person.sees(PROMPT)
        person.type(b"\x04")
        assert person.wait() == 130


def test_ctrl_d_ends_the_shell(orlop: Orlop, runtime: str) -> None:
    with on_terminal(orlop, "run", "--rm", "-it", "--runtime", runtime, IMAGE, "sh") as person:
        person.sees(PROMPT)
        person.type(b"\x04")
        assert person.wait() == 0


def test_what_is_typed_ahead_is_not_lost(orlop: Orlop) -> None:
    with on_terminal(orlop, "run", "--rm", "-it", IMAGE, "sh") as person:
        person.until(lambda: person.is_raw, "raw mode")
        person.type(b"echo a''head; exit\n")
        person.sees(rb"\r\nahead\r\n")
        assert person.wait() == 0


def test_an_error_leaves_the_terminal_as_it_was(orlop: Orlop) -> None:
    for argv, code in (
        (["--pull", "never", "no/such-image"], 125),
        ([IMAGE, "nonesuch"], 127),
        ([IMAGE, "/bin/plain"], 126),
        ([IMAGE, "/bin/garbage"], 126),
    ):
        with on_terminal(orlop, "run", "--rm", "-it", *argv) as person:
            assert person.wait() == code, person.screen
            assert argv[-1].rpartition("/")[2].encode() in person.screen
            assert person.attributes() == person.before
    assert orlop.out("ps", "-aq") == ""


def test_a_signal_to_the_caller_leaves_the_terminal_as_it_was_and_the_container_running(orlop: Orlop) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        with on_terminal(orlop, "run", "-it", "--name", "left", IMAGE, "sh") as person:
            person.sees(PROMPT)
            person.process.send_signal(number)
            assert person.wait() == -number
            assert person.attributes() == person.before
        assert orlop.out("inspect", "-f", "{{.State.Running}}", "left") == "true"
        orlop.run("rm", "-f", "left")


def test_a_killed_monitor_ends_the_session_and_leaves_the_terminal_as_it_was(orlop: Orlop) -> None:
    with on_terminal(orlop, "run", "-it", "--name", "lost", IMAGE, "sh") as person:
        person.sees(PROMPT)
        os.kill(monitor_of(orlop, "lost"), signal.SIGKILL)
        person.wait()
        assert person.attributes() == person.before
    orlop.run("rm", "-f", "lost")


def test_when_a_killed_monitor_leaves_the_process_running_keys_are_ones_own_again(orlop: Orlop) -> None:
    with on_terminal(orlop, "run", "-it", "--name", "orphan", IMAGE, "sleep", "1000") as person:
        person.until(lambda: person.is_raw, "raw mode")
        orlops.wait_for("the start", lambda: orlop.out("ps", "-q") != "")
        os.kill(monitor_of(orlop, "orphan"), signal.SIGKILL)
        person.until(lambda: person.attributes() == person.before, "the attributes")
        person.type(b"\x03")
        assert person.wait() == 130
    assert orlop.out("ps", "-q") != ""


def test_a_caller_that_was_stopped_takes_the_terminal_again(orlop: Orlop) -> None:
    with on_terminal(orlop, "run", "--rm", "-it", IMAGE, "sh") as person:
        person.sees(PROMPT)
        person.process.send_signal(signal.SIGSTOP)
        termios.tcsetattr(person.slave, termios.TCSANOW, person.before)  # as a shell with job control does
        person.process.send_signal(signal.SIGCONT)
        person.until(lambda: person.is_raw, "raw mode")
        person.type(b"exit\n")
        assert person.wait() == 0
        assert person.attributes() == person.before


def test_the_keys_that_detach_leave_it_running_and_start_ai_comes_back(orlop: Orlop, runtime: str) -> None:
    with on_terminal(orlop, "run", "-it", "--name", "back", "--runtime", runtime, IMAGE, "sh") as person:
        person.sees(PROMPT)
        person.type(b"here=kept\n\x10x\x10\x10\x11")
        assert person.wait() == 0
        assert person.attributes() == person.before
    assert orlop.out("inspect", "-f", "{{.State.Running}} {{.Config.Tty}}", "back") == "true true"
    with on_terminal(orlop, "start", "-ai", "--detach-keys", "ctrl-a,d", "back", columns=66, rows=22) as person:
        person.until(lambda: person.is_raw, "raw mode")
        person.type(b"\x15\necho $here; stty size\n")  # ^U: the stray keys are no command
        person.sees(rb"\r\nkept\r\n22 66\r\n")
        person.type(b"\x10\x11\x01d")
        assert person.wait() == 0
    assert "kept" in orlop.out("logs", "back")
    with on_terminal(orlop, "start", "-ai", "back") as person:
        person.until(lambda: person.is_raw, "raw mode")
        person.type(b"\x15exit 5\n")
        assert person.wait() == 5
    assert orlop.out("inspect", "-f", "{{.State.Status}}", "back") == "exited"
    with on_terminal(orlop, "start", "-ai", "back") as person:
        person.sees(PROMPT)
        person.type(b"exit 6\n")
        assert person.wait() == 6
    orlop.run("rm", "back")


def test_exec_it_has_a_terminal_of_its_own(orlop: Orlop, runtime: str) -> None:
    orlop.run("run", "-d", "--name", "host", "--runtime", runtime, IMAGE, "sleep", "1000")
    with on_terminal(orlop, "exec", "-it", "-u", "sailor", "host", "sh", columns=77, rows=33) as person:
        person.sees(rb"\$ ")
        person.type(b"test -t 0 && test -t 1 && test -t 2 && stty size; id -un; echo x > $(tty) && echo $TERM\n")
        person.sees(rb"33 77\r\nsailor\r\nx\r\nxterm\r\n")
        person.resize(55, 11)

        def shows() -> bool:
            person.type(b"stty size\n")
            person.sees(rb"\n\d+ \d+\r\n")
            return b"11 55\r\n" in person.screen

        person.until(shows, "the new size")
        person.type(b"exit 3\n")
        assert person.wait() == 3
        assert person.attributes() == person.before
    with on_terminal(orlop, "exec", "-it", "host", "nonesuch") as person:
        assert person.wait() == 127
        assert person.attributes() == person.before
    with on_terminal(orlop, "exec", "-it", "--detach-keys", "^", "host", "sh") as person:
        person.sees(PROMPT)
        person.type(b"^")
        assert person.wait() == 0
    with on_terminal(orlop, "exec", "-t", "host", "stty", "size", columns=44, rows=12) as person:
        assert person.wait() == 0
    orlop.run("rm", "-f", "host")


def test_without_a_terminal_of_ones_own_i_and_t_are_refused_as_docker_does(orlop: Orlop) -> None:
    orlop.run("run", "-d", "--name", "there", IMAGE, "sleep", "1000")
    for argv in (["run", "--rm", "-it", IMAGE, "sh"], ["exec", "-it", "there", "sh"]):
        done = orlop.run(*argv, code=1)
        assert b"the input device is not a TTY" in done.stderr
    assert len(orlop.out("ps", "-aq").split()) == 1
    done = orlop.run("run", "--rm", "-t", IMAGE, "sh", "-c", "test -t 1 && echo out; echo err >&2; exit 4", code=4)
    assert (done.stdout, done.stderr) == (b"out\r\nerr\r\n", b"")
    assert orlop.run("exec", "-t", "there", "sh", "-c", "test -t 0 && echo yes").stdout == b"yes\r\n"
    orlop.run("rm", "-f", "there")


def test_a_detached_container_with_a_terminal_runs_on_logs_and_can_be_joined(orlop: Orlop, runtime: str) -> None:
    orlop.run("run", "-dit", "--name", "far", "--runtime", runtime, IMAGE, "sh")
    with on_terminal(orlop, "start", "-ai", "far", columns=99, rows=9) as person:
        person.until(lambda: person.is_raw, "raw mode")
        person.type(b"stty size; exit 2\n")
        person.sees(rb"9 99\r\n")
        assert person.wait() == 2
    assert "9 99" in orlop.out("logs", "far")
    orlop.run("rm", "far")


def test_a_detached_container_starts_with_the_callers_size(orlop: Orlop) -> None:
    with on_terminal(orlop, "run", "-dt", "--name", "sized", IMAGE, "stty", "size", columns=123, rows=45) as person:
        assert person.wait() == 0
        assert not person.is_raw
    assert orlop.out("wait", "sized") == "0"
    assert orlop.out("logs", "sized") == "45 123"
    orlop.run("rm", "sized")


def test_ctrl_c_without_i_is_handed_on_as_a_signal(orlop: Orlop) -> None:
    script = "trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.05; done"
    with on_terminal(orlop, "run", "--rm", "-t", IMAGE, "sh", "-c", script) as person:
        person.sees(rb"ready")
        assert not person.is_raw
        person.type(b"\x03")
        person.sees(rb"caught")
        assert person.wait() == 4


def test_a_mebibyte_comes_through_unharmed(orlop: Orlop, runtime: str) -> None:
    script = "stty raw; printf BEGIN; yes 0123456789abcde | head -c 1048576; printf END"
    with on_terminal(orlop, "run", "--rm", "-it", "--runtime", runtime, IMAGE, "sh", "-c", script) as person:
        assert person.wait() == 0
        body = person.screen.partition(b"BEGIN")[2].rpartition(b"END")[0]
        assert len(body) == 1 << 20
        assert body == b"0123456789abcde\n" * (1 << 16)


def test_much_input_arrives_unharmed(orlop: Orlop) -> None:
    data = b"0123456789abcde\n" * (1 << 12)
    script = f"stty raw -echo; echo ready; head -c {len(data)} | md5sum"
    with on_terminal(orlop, "run", "--rm", "-it", IMAGE, "sh", "-c", script) as person:
        person.sees(rb"ready")
        person.type(data)
        import hashlib

        person.sees(hashlib.md5(data).hexdigest().encode())
        assert person.wait() == 0


def test_a_terminal_that_all_have_closed_can_be_opened_again(orlop: Orlop) -> None:
    say = "sleep 0.2; echo {} > /dev/console"
    script = f"exec </dev/null >/dev/null 2>&1; {say.format('again')}; {say.format('more')}"
    with on_terminal(orlop, "run", "--rm", "-it", IMAGE, "sh", "-c", script) as person:
        person.sees(rb"again\r\n.*more\r\n")
        assert person.wait() == 0


def test_a_bad_key_is_named(orlop: Orlop) -> None:
    with on_terminal(orlop, "run", "--rm", "-it", "--detach-keys", "ctrl-1", IMAGE, "true") as person:
        assert person.wait() == 125
        assert b"ctrl-1" in person.screen
    assert orlop.out("ps", "-aq") == ""


def test_nothing_is_left_behind(orlop: Orlop) -> None:
    def ptys_open() -> int:
        return int(Path("/proc/sys/kernel/pty/nr").read_text())

    before = ptys_open()
    with on_terminal(orlop, "run", "--rm", "-it", IMAGE, "sh") as person:
        person.sees(PROMPT)
        person.type(b"exit\n")
        person.wait()
    orlops.wait_for("the terminals to go", lambda: ptys_open() <= before)
    assert [path.name for path in (orlop.state / "s").glob("*") if not path.name.endswith((".sock", ".attach"))] == []
