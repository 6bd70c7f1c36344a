"""Containers through the command line, as a person uses it, on the real kernel."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import orlops
from tests.support.orlops import IMAGE, Orlop


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "journey-containers") as opened:
        opened.import_busybox()
        yield opened


def test_run_passes_output_error_output_and_exit_code_on(orlop: Orlop) -> None:
    done = orlop.run("run", "--rm", IMAGE, "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert done.stdout == b"out\n"
    assert done.stderr == b"err\n"


def test_run_without_a_command_runs_the_images(orlop: Orlop) -> None:
    assert orlop.run("run", "--rm", "-i", IMAGE, stdin=b"echo from-$((6*7))\n").stdout == b"from-42\n"


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["nonesuch"], 127, "nonesuch"),
        (["/bin/plain"], 126, "plain"),
        (["/bin/garbage"], 126, "garbage"),
    ],
)
def test_a_command_that_cannot_run_has_dockers_exit_code_and_one_clear_line(
    orlop: Orlop, argv: list[str], code: int, text: str
) -> None:
    done = orlop.run("run", "--rm", IMAGE, *argv, code=code)
    assert text in done.stderr.decode().splitlines()[0]
    assert orlop.out("ps", "-aq") == ""


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["--frobnicate", IMAGE], "unknown flag: --frobnicate"),
        (["--memory", "lots", IMAGE], "--memory"),
        (["--network", "mars", IMAGE], "mars"),
        (["--cap-add", "FLY", IMAGE], "FLY"),
        (["--user", "nobody-here", IMAGE], "nobody-here"),
        (["-v", "relative:path", IMAGE], "relative"),
        (["--name", "-bad-", IMAGE], "-bad-"),
        (["--pull", "never", "no/such-image"], "no/such-image"),
        (["--pull", "sometimes", IMAGE], "sometimes"),
    ],
)
def test_what_the_caller_got_wrong_ends_with_125_and_names_it(orlop: Orlop, argv: list[str], text: str) -> None:
    done = orlop.run("run", "--rm", *argv, code=125)
    assert text in done.stderr.decode().splitlines()[0]
    assert "Traceback" not in done.stderr.decode()
    assert orlop.out("ps", "-aq") == ""


def test_a_signal_ends_with_128_and_its_number(orlop: Orlop) -> None:
    orlop.run("run", "--rm", IMAGE, "sh", "-c", "sh -c 'kill -TERM $$'; exit $?", code=143)
    orlop.run("run", "-d", "--name", "shot", IMAGE, "sleep", "1000")
    orlop.run("kill", "shot")
    assert orlop.out("wait", "shot") == "137"
    orlop.run("rm", "shot")


def test_environment_user_workdir_hostname_and_entrypoint_reach_the_process(orlop: Orlop) -> None:
    text = orlop.out(
        "run", "--rm", "-e", "A=1", "-e", "HOME_OF=x y", "-u", "sailor", "-w", "/tmp/new", "--hostname", "brig",
        "--entrypoint", "/bin/sh", IMAGE, "-c",
        'echo "$A|$HOME_OF|$(id -u):$(id -g):$(id -G)|$(pwd)|$(hostname)|$HOME"',
    )  # fmt: skip
    assert text == "1|x y|1000:1000:1000 2000|/tmp/new|brig|/home"


def test_volumes_tmpfs_and_read_only_root(orlop: Orlop, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("cargo")
    script = (
        "cat /data/in; echo more > /data/out; touch /x 2>/dev/null || echo read-only; "
        "touch /scratch/y && echo scratch; touch /ro/z 2>/dev/null || echo ro"
    )
    text = orlop.out(
        "run", "--rm", "--read-only", "--tmpfs", "/scratch", "-v", f"{tmp_path}:/data", "-v", f"{tmp_path}:/ro:ro",
        IMAGE, "sh", "-c", script,
    )  # fmt: skip
    assert text == "cargoread-only\nscratch\nro"
    assert (tmp_path / "out").read_text() == "more\n"


def test_limits_reach_the_kernel(orlop: Orlop) -> None:
    done = orlop.run("run", "--rm", "--memory", "32m", IMAGE, "sh", "-c", "tail /dev/zero", code=None)
    assert done.returncode in (137, 1)
    script = "cat /sys/fs/cgroup/pids/pids.max /sys/fs/cgroup/pids.max 2>/dev/null; true"
    assert orlop.out("run", "--rm", "--pids-limit", "17", IMAGE, "sh", "-c", script).split()[0] == "17"


def test_the_defaults_are_secure(orlop: Orlop) -> None:
    text = orlop.out(
        "run", "--rm", IMAGE, "sh", "-c", "cat /proc/self/status; ls /proc/acpi 2>&1; cat /proc/kcore | wc -c"
    )
    status = dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    assert status["Seccomp"] == "2"
    assert int(status["CapEff"], 16) & ~0xA80425FB == 0
    assert text.splitlines()[-1] == "0"


def test_capabilities_are_added_dropped_and_all_given_to_the_privileged(orlop: Orlop) -> None:
    def effective(*flags: str) -> int:
        return int(orlop.out("run", "--rm", *flags, IMAGE, "sh", "-c", "grep CapEff /proc/self/status").split()[1], 16)

    assert effective("--cap-drop", "ALL") == 0
    assert effective("--cap-drop", "ALL", "--cap-add", "NET_ADMIN") == 1 << 12
    own = int(
        next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "CapBnd" in line), 16
    )
    assert effective("--privileged") == own


def test_network_none_has_loopback_only_and_host_is_the_hosts(orlop: Orlop) -> None:
    links = orlop.out("run", "--rm", "--network", "none", IMAGE, "ls", "/sys/class/net").split()
    assert links == ["lo"]
    ours = os.readlink("/proc/self/ns/net")
    assert orlop.out("run", "--rm", "--network", "host", IMAGE, "readlink", "/proc/self/ns/net") == ours


def test_a_detached_container_is_listed_logged_entered_stopped_and_removed(orlop: Orlop) -> None:
    id = orlop.out(
        "run", "-d", "--name", "barge", "--label", "cargo=coal", IMAGE, "sh", "-c", "echo hello; exec sleep 1000"
    )
    assert len(id) == 64
    line = orlop.out("ps", "--filter", "label=cargo=coal").splitlines()[1]
    assert line.startswith(id[:12])
    assert "Up " in line
    assert line.endswith("barge")
    orlops.wait_for("the log line", lambda: orlop.out("logs", "barge") == "hello")
    assert orlop.out("exec", "barge", "sh", "-c", "echo in; hostname") == f"in\n{id[:12]}"
    orlop.run("exec", "barge", "sh", "-c", "exit 5", code=5)
    orlop.run("exec", "barge", "nonesuch", code=127)
    orlop.run("exec", "barge", "/bin/plain", code=126)
    assert orlop.run("exec", "-i", "barge", "cat", stdin=b"through").stdout == b"through"
    orlop.run("rm", "barge", code=1)
    assert orlop.out("stop", "-t", "1", "barge") == "barge"
    assert orlop.out("inspect", "-f", "{{.State.Status}} {{.State.ExitCode}}", "barge") == "exited 137"
    assert "Exited (137)" in orlop.out("ps", "-a", "--filter", "name=barge")
    orlop.run("exec", "barge", "true", code=125)
    assert orlop.out("start", "barge") == "barge"
    assert orlop.out("inspect", "-f", "{{.State.Running}}", "barge") == "true"
    assert orlop.out("rm", "-f", "barge") == "barge"
    orlop.run("inspect", "barge", code=1)


def test_what_a_container_writes_survives_stop_and_start_and_goes_with_rm(orlop: Orlop) -> None:
    orlop.out("run", "--name", "log", IMAGE, "sh", "-c", "echo $(cat /count 2>/dev/null)x > /count; cat /count")
    assert orlop.out("start", "-a", "log") == "xx"
    assert orlop.out("start", "-a", "log") == "xxx"
    assert orlop.out("logs", "log").split() == ["x", "xx", "xxx"]
    orlop.run("rm", "log")
    assert not list((orlop.root / "containers" / "default").glob("*"))


def test_names_are_unique_and_ids_may_be_shortened(orlop: Orlop) -> None:
    id = orlop.out("create", "--name", "one", IMAGE, "true")
    done = orlop.run("create", "--name", "one", IMAGE, "true", code=125)
    assert b"one" in done.stderr
    assert orlop.out("inspect", "-f", "{{.Id}}", id[:10]) == id
    assert orlop.out("ps", "-a", "--filter", "status=created", "-q") == id[:12]
    orlop.run("rm", id[:12])


def test_wait_prints_the_exit_code(orlop: Orlop) -> None:
    orlop.run("run", "-d", "--name", "brief", IMAGE, "sh", "-c", "sleep 0.2; exit 9")
    assert orlop.out("wait", "brief") == "9"
    assert orlop.out("wait", "brief") == "9"
    orlop.run("rm", "brief")


def test_kill_sends_the_signal_that_was_asked_for(orlop: Orlop) -> None:
    orlop.run(
        "run", "-d", "--name", "trap", IMAGE, "sh", "-c", "trap 'echo got; exit 3' USR1; while :; do sleep 0.05; done"
    )
    orlops.wait_for("the trap", lambda: orlop.out("exec", "trap", "true") == "")
    time.sleep(0.2)
    orlop.run("kill", "-s", "USR1", "trap")
    assert orlop.out("wait", "trap") == "3"
    orlop.run("rm", "trap")


def test_ctrl_c_reaches_the_container(orlop: Orlop) -> None:
    running = orlop.start(
        "run", "--rm", IMAGE, "sh", "-c", "trap 'echo caught; exit 4' INT; echo ready; while :; do sleep 0.05; done"
    )
    assert running.stdout is not None
    assert running.stdout.readline() == b"ready\n"
    running.send_signal(signal.SIGINT)
    out, _ = running.communicate(timeout=30)
    assert (out, running.returncode) == (b"caught\n", 4)
    assert orlop.out("ps", "-aq") == ""


def test_rm_happens_when_the_caller_was_killed(orlop: Orlop) -> None:
    running = orlop.start("run", "--rm", IMAGE, "sh", "-c", "echo ready; sleep 1")
    assert running.stdout is not None
    assert running.stdout.readline() == b"ready\n"
    running.kill()
    running.communicate()
    orlops.wait_for("the removal", lambda: orlop.out("ps", "-aq") == "")


def test_a_detached_container_with_rm_removes_itself(orlop: Orlop) -> None:
    orlop.run("run", "-d", "--rm", IMAGE, "true")
    orlops.wait_for("the removal", lambda: orlop.out("ps", "-aq") == "")


def test_a_lost_monitor_is_told_and_the_container_can_be_removed(orlop: Orlop) -> None:
    orlop.run("run", "-d", "--name", "orphan", IMAGE, "sleep", "1000")
    pid = int(orlop.out("inspect", "-f", "{{.State.Pid}}", "orphan"))
    parent = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(parent, signal.SIGKILL)
    orlops.wait_for("the loss to show", lambda: "monitor lost" in orlop.out("ps", "--filter", "name=orphan"))
    assert Path(f"/proc/{pid}").exists()
    orlop.run("rm", "-f", "orphan")
    orlops.wait_for("the process to go", lambda: not Path(f"/proc/{pid}").exists())
    assert orlop.out("ps", "-aq") == ""


def test_two_processes_stop_start_and_remove_one_container_at_once(orlop: Orlop) -> None:
    for _ in range(3):
        orlop.run("run", "-d", "--name", "contested", IMAGE, "sleep", "1000")
        running = [
            orlop.start("stop", "-t", "0", "contested"),
            orlop.start("start", "contested"),
            orlop.start("rm", "-f", "contested"),
            orlop.start("rm", "-f", "contested"),
        ]
        for process in running:
            _, err = process.communicate(timeout=60)
            assert b"Traceback" not in err, err
        orlop.run("rm", "-f", "contested")
        assert orlop.out("ps", "-aq") == ""


def test_logs_tail_since_timestamps_and_follow(orlop: Orlop) -> None:
    orlop.run("run", "--name", "lines", IMAGE, "sh", "-c", "for i in 1 2 3 4 5; do echo line-$i; done; echo bad >&2")
    assert orlop.run("logs", "--tail", "2", "lines").stdout == b"line-5\n"
    assert orlop.run("logs", "lines").stderr == b"bad\n"
    assert orlop.out("logs", "--since", "1h", "--tail", "3", "lines").split() == ["line-4", "line-5"]
    assert orlop.out("logs", "--until", "1h", "lines") == ""
    first = orlop.out("logs", "-t", "lines").splitlines()[0]
    assert first.endswith("Z line-1")
    orlop.run("rm", "lines")
    orlop.run("run", "-d", "--name", "stream", IMAGE, "sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.1; done")
    assert orlop.out("logs", "-f", "stream").split() == ["1", "2", "3"]
    orlop.run("rm", "-f", "stream")


def test_logs_rotate(orlop: Orlop) -> None:
    orlop.run(
        "run", "--name", "chatty", "--log-opt", "max-size=10k", "--log-opt", "max-file=3", IMAGE,
        "sh", "-c", "i=0; while [ $i -lt 1000 ]; do echo number-$i; i=$((i+1)); done",
    )  # fmt: skip
    directory = Path(orlop.out("inspect", "-f", "{{.LogPath}}", "chatty")).parent
    assert len(list(directory.glob("*-json.log*"))) == 3
    assert orlop.out("logs", "--tail", "1", "chatty") == "number-999"
    lines = orlop.out("logs", "chatty").split()
    assert lines == [f"number-{n}" for n in range(1000 - len(lines), 1000)]
    orlop.run("rm", "chatty")


def test_much_output_arrives_whole(orlop: Orlop) -> None:
    done = orlop.run("run", "--rm", "--log-driver", "none", IMAGE, "dd", "if=/dev/zero", "bs=1M", "count=32")
    assert done.stdout == bytes(32 << 20)


def test_inspect_tells_dockers_members(orlop: Orlop) -> None:
    orlop.run(
        "create", "--name", "shown", "--memory", "64m", "--cap-add", "NET_ADMIN", "-e", "X=1", IMAGE, "echo", "hi"
    )
    told = json.loads(orlop.out("inspect", "shown"))[0]
    assert told["Name"] == "/shown"
    assert (told["Path"], told["Args"]) == ("echo", ["hi"])
    assert told["State"]["Status"] == "created"
    assert told["HostConfig"]["Memory"] == 64 << 20
    assert "X=1" in told["Config"]["Env"]
    assert told["Config"]["Image"] == IMAGE
    assert told["Loosened"] == ["cap-add=NET_ADMIN"]
    orlop.run("rm", "shown")


@pytest.mark.parametrize("runtime", ["crun", "runc"])
def test_either_oci_runtime_works_and_the_user_does_not_notice(orlop: Orlop, runtime: str) -> None:
    assert orlop.out("run", "--rm", "--runtime", runtime, IMAGE, "echo", runtime) == runtime


def test_the_library_does_what_the_command_line_does(orlop: Orlop) -> None:
    containers = orlop.engine.containers
    done = containers.run(IMAGE, ["sh", "-c", "echo hi; exit 3"], remove=True)
    assert (done.exit_code, done.output) == (3, b"hi\n")
    running = containers.run(IMAGE, ["sleep", "1000"], name="lib", detach=True)
    assert running.status == "running"
    process = running.exec(["sh", "-c", "echo out; exit 2"])
    assert process.output() == b"out\n"
    assert process.wait() == 2
    running.stop(timeout=0)
    assert running.status == "exited"
    running.remove()
    assert containers.list(all=True) == []
