"""Namespaces and processes for real; what changes the process itself happens in a child."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest

from orlop.base.kernel import capabilities, namespaces, process


def child(program: str) -> str:
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=30, check=False
    )
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


@pytest.fixture
def sleeper():
    started = subprocess.Popen(["sleep", "60"])
    yield started
    started.kill()
    started.wait()


def test_unshare_gives_namespaces_of_ones_own():
    assert child("""
        from orlop.base.kernel import namespaces as n
        kinds = ("mnt", "uts", "ipc", "net")
        before = [n.namespace_id(k) for k in kinds]
        n.unshare(n.CLONE_NEWNS | n.CLONE_NEWUTS | n.CLONE_NEWIPC | n.CLONE_NEWNET)
        print(all(a != n.namespace_id(k) for a, k in zip(before, kinds)))
    """) == "True"  # fmt: skip


def test_setns_enters_by_descriptor_and_by_pidfd(sleeper):
    unshared = subprocess.Popen(
        ["unshare", "--uts", "--", "sh", "-c", "echo ready; exec sleep 60"], stdout=subprocess.PIPE
    )
    try:
        assert unshared.stdout.readline() == b"ready\n"
        assert child(f"""
            from orlop.base.kernel import namespaces as n, process
            there = n.namespace_id("uts", {unshared.pid})
            n.setns(n.open_namespace("uts", {unshared.pid}), n.CLONE_NEWUTS)
            first = n.namespace_id("uts") == there
            n.setns(process.pidfd_open({sleeper.pid}), n.CLONE_NEWUTS)
            print(first, n.namespace_id("uts") == n.namespace_id("uts", {sleeper.pid}))
        """) == "True True"  # fmt: skip
    finally:
        unshared.kill()
        unshared.wait()
        unshared.stdout.close()


def test_the_initial_user_namespace_is_told_from_others():
    assert namespaces.is_initial_user_namespace() is True
    assert child("""
        from orlop.base.kernel import namespaces as n
        n.unshare(n.CLONE_NEWUSER)
        print(n.is_initial_user_namespace())
    """) == "False"  # fmt: skip


def test_a_subreaper_is_given_orphans_and_learns_their_status():
    assert child("""
        import os
        from orlop.base.kernel import process
        process.set_subreaper()
        r, w = os.pipe()
        if os.fork() == 0:
            if os.fork() == 0:
                os.close(w)
                os.read(r, 1)   # ends when the grandparent has seen its parent die
                os._exit(7)
            os._exit(0)
        os.wait()
        os.close(r); os.close(w)
        pid, status = os.wait()
        print(process.is_subreaper(), os.waitstatus_to_exitcode(status))
    """) == "True 7"  # fmt: skip


def test_parent_death_signal_no_new_privs_name_and_dumpable():
    assert child("""
        from orlop.base.kernel import process
        process.set_no_new_privs(); process.set_name("orlop-a-very-long-name"); process.set_dumpable(False)
        process.set_parent_death_signal(9)
        print(process.no_new_privs(), open("/proc/self/comm").read().strip())
    """) == "True orlop-a-very-lo"  # fmt: skip


def test_a_pidfd_signals_and_reaps():
    pid = os.posix_spawn("/bin/sleep", ["sleep", "60"], {})
    fd = process.pidfd_open(pid)
    try:
        assert process.wait_pidfd(fd, os.WNOHANG) is None
        process.pidfd_send_signal(fd, 0)
        process.pidfd_send_signal(fd, signal.SIGTERM)
        reaped, status = process.wait_pidfd(fd)
        assert reaped == pid
        assert os.WTERMSIG(status) == signal.SIGTERM
        with pytest.raises(ProcessLookupError):
            process.pidfd_send_signal(fd, 0)
    finally:
        os.close(fd)
    with pytest.raises(ProcessLookupError):
        process.pidfd_open(pid)


def test_wait_pidfd_gives_exit_codes_as_waitpid_does():
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "exit 42"], {})
    fd = process.pidfd_open(pid)
    try:
        _, status = process.wait_pidfd(fd)
    finally:
        os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 42


def test_close_range_closes_and_marks():
    assert child("""
        import os
        from orlop.base.kernel import process
        process.libc = None
        process.close_range(900)           # loads the C library first
        a, b = os.dup2(0, 500), os.dup2(0, 501)
        process.close_range(500, 500)
        process.close_range(501, 501, process.CLOSE_RANGE_CLOEXEC)
        try:
            os.fstat(500)
        except OSError as e:
            print(e.errno, os.get_inheritable(501))
    """) == "9 False"  # fmt: skip


def test_start_ticks_name_a_process_for_good(sleeper):
    ticks = process.start_ticks(sleeper.pid)
    assert process.is_alive(sleeper.pid, ticks)
    assert not process.is_alive(sleeper.pid, ticks + 1)
    assert process.parent_of(sleeper.pid) == os.getpid()
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not process.is_alive(sleeper.pid, ticks), "a zombie is not alive"
    sleeper.wait()
    with pytest.raises(ProcessLookupError):
        process.start_ticks(sleeper.pid)


def test_start_ticks_survive_a_name_full_of_parentheses_and_blanks():
    assert child("""
        import os
        from orlop.base.kernel import process
        before = process.start_ticks(os.getpid())
        process.set_name("a) R 1 (b 2")
        print(before == process.start_ticks(os.getpid()), process.parent_of(os.getpid()) == os.getppid())
    """) == "True True"  # fmt: skip


def test_capability_sets_are_those_the_kernel_tells():
    with open("/proc/self/status") as file:
        fields = dict(line.split(":", 1) for line in file.read().splitlines())
    own = capabilities.own()
    known = (1 << len(capabilities.NAMES)) - 1
    assert capabilities.to_mask(own.bounding) == int(fields["CapBnd"], 16) & known
    assert capabilities.to_mask(own.effective) == int(fields["CapEff"], 16) & known
    assert "CAP_SYS_ADMIN" in own.effective
