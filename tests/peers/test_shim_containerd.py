"""Debian's containerd starts containerd-shim-orlop-v2, and `ctr` does with its tasks what it does with runc's."""

from __future__ import annotations

import contextlib
import io
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.support import bundle as bundles
from tests.support.shim import processes_with, until

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.skipif(shutil.which("containerd") is None or shutil.which("ctr") is None, reason="needs containerd"),
]

RUNTIME = "io.containerd.orlop.v2"
IMAGE = "docker.io/library/orlop-test:1"
SCRIPT = Path(__file__).resolve().parents[2] / "scripts/orlop"
LOOP = 'trap "exit 9" TERM; echo started; while :; do sleep 0.05; done'
CONFIG = """
version = 2
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.restart",
  "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
  "io.containerd.snapshotter.v1.aufs", "io.containerd.tracing.processor.v1.otlp", "io.containerd.internal.v1.tracing",
]
[grpc]
  address = "{directory}/c.sock"
[debug]
  level = "debug"
"""


class Containerd:
    """A containerd of our own, with an image of busybox in it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.socket = directory / "c.sock"
        self.namespace = f"orlop-{os.urandom(3).hex()}"
        self.log = directory / "containerd.log"
        (directory / "config.toml").write_text(CONFIG.format(directory=directory))
        # What the shim is called by; beside an interpreter, as it is installed.
        (directory / "bin").mkdir()
        shutil.copy2(SCRIPT, directory / "bin/containerd-shim-orlop-v2")
        wrapper = f'#!/bin/sh\nexec {sys.executable} "$@"\n'
        (directory / "bin/python3").write_text(wrapper)
        (directory / "bin/python3").chmod(0o755)
        site = directory / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages"
        site.mkdir(parents=True)
        (site / "orlop").symlink_to(SCRIPT.parents[1] / "src/orlop")
        self.environment = {
            **os.environ,
            "PATH": f"{directory}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "ORLOP_SHIM_STATE": str(directory / "shim"),
        }
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["containerd", "-c", str(self.directory / "config.toml")],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment,
            )
        until(lambda: self.ctr("version", check=False).returncode == 0, "containerd serves")

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait(20)

    def ctr(self, *words: str, check: bool = True, text: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["ctr", "-a", str(self.socket), "-n", self.namespace, *words],
            input=text,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            **options,
        )
        assert not check or done.returncode == 0, f"{words}: {done.stderr}\n{self.log.read_text()[-4000:]}"
        return done

    def run(
        self, name: str, script: str, *flags: str, check: bool = False, text: str = ""
    ) -> subprocess.CompletedProcess[str]:
        words = [
            "run",
            "--fifo-dir",
            str(self.directory / "fifo"),
            "--snapshotter",
            "overlayfs",
            "--runtime",
            RUNTIME,
            *flags,
            IMAGE,
            name,
            "sh",
            "-c",
            script,
        ]
        return self.ctr(*words, check=check, text=text)

    def status(self, name: str) -> str:
        """As `ctr tasks ls` tells it, "" when there is no such task."""
        for line in self.ctr("tasks", "ls").stdout.splitlines():
            words = line.split()
            if words and words[0] == name:
                return words[2]
        return ""

    def pid(self, name: str) -> int:
        lines = self.ctr("tasks", "ls").stdout.splitlines()
        return next(int(words[1]) for words in map(str.split, lines) if words[0] == name)

    def shim_pid(self, name: str) -> int:
        path = self.directory / "state/io.containerd.runtime.v2.task" / self.namespace / name / "shim.json"
        return int(json.loads(path.read_text())["pid"])

    def terminate(self, name: str) -> None:
        """Send SIGTERM until the task ends: init ignores it as long as it has not set its trap."""

        def ended() -> bool:
            self.ctr("tasks", "kill", name, check=False)
            return self.status(name) == "STOPPED"

        until(ended, f"{name} ends")

    def remove(self, name: str) -> None:
        """Kill, delete and forget a container, whatever its state."""
        self.ctr("tasks", "kill", "-s", "SIGKILL", name, check=False)
        until(lambda: self.status(name) in ("", "STOPPED"), f"{name} ends")
        self.ctr("tasks", "delete", name, check=False)
        self.ctr("containers", "delete", name, check=False)

    def left_over(self) -> list[str]:
        """What tasks have left: processes, mounts, cgroups, sockets, bundles, the OCI runtime's state."""
        mounted = Path("/proc/self/mountinfo").read_text().splitlines()
        left = [line for line in mounted if str(self.directory) in line]
        left += [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{self.namespace}/*") if path.is_dir()]
        left += [str(path) for path in (self.directory / "state/io.containerd.runtime.v2.task").glob("*/*")]
        for shim in (self.directory / "shim").glob("*"):
            left += [str(path) for pattern in ("s/*", "crun/*/*", "runc/*/*") for path in shim.glob(pattern)]
        left += [line for line in processes_with(f"-namespace {self.namespace}") if "ctr" not in line.split()[2]]
        return left

    def check_clean(self) -> None:
        until(lambda: not self.left_over(), f"nothing is left: {self.left_over()}", 15)


@pytest.fixture(scope="module")
def containerd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Containerd]:
    directory = Path(os.path.realpath(tmp_path_factory.mktemp("c")))
    one = Containerd(directory)
    try:
        archive = _docker_archive(directory)
        one.ctr("images", "import", "--snapshotter", "overlayfs", str(archive))
        yield one
    finally:
        for line in one.ctr("containers", "ls", "-q", check=False).stdout.split():
            one.remove(line)
        assert one.process is not None
        one.process.terminate()
        one.process.wait(20)
        for path in Path("/sys/fs/cgroup").glob(f"*/{one.namespace}"):
            path.rmdir()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def name(containerd: Containerd) -> Iterator[str]:
    """A container's name; afterwards nothing of it may be left."""
    one = f"t{os.urandom(4).hex()}"
    yield one
    containerd.remove(one)
    containerd.check_clean()


@pytest.fixture
def events(containerd: Containerd) -> Iterator[Callable[[str], list[tuple[str, dict[str, Any]]]]]:
    """What containerd tells of a container's task: topic and event, in order."""
    path = containerd.directory / "events"
    with path.open("wb") as file:
        command = ["ctr", "-a", str(containerd.socket), "-n", containerd.namespace, "events"]
        listener = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file)

    def heard(container: str) -> list[tuple[str, dict[str, Any]]]:
        found = []
        for line in path.read_text().splitlines():
            match = re.search(r" (/tasks/\S+) (\{.*\})$", line)
            if match and json.loads(match[2]).get("container_id") == container:
                found.append((match[1], json.loads(match[2])))
        return found

    def listens() -> bool:
        """Whether it has subscribed: it hears of a container that is made and removed for the purpose."""
        containerd.ctr("containers", "create", "--snapshotter", "overlayfs", IMAGE, "probe")
        containerd.ctr("containers", "delete", "probe")
        return "probe" in path.read_text()

    until(listens, "ctr events listens")
    yield heard
    listener.kill()
    listener.wait(10)


def _docker_archive(directory: Path) -> Path:
    """An image of one layer, as `docker save` writes it."""
    rootfs = bundles.rootfs(directory / "rootfs")
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for entry in sorted(rootfs.iterdir()):
            tar.add(entry, entry.name)
    shutil.rmtree(rootfs)
    config = {
        "architecture": "amd64" if os.uname().machine == "x86_64" else "arm64",
        "os": "linux",
        "config": {"Env": ["PATH=/bin"], "Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [IMAGE.removeprefix("docker.io/library/")], "Layers": ["l.tar"]}]
    archive = directory / "image.tar"
    with tarfile.open(archive, "w") as tar:
        for file, data in (
            ("l.tar", layer.getvalue()),
            ("config.json", json.dumps(config).encode()),
            ("manifest.json", json.dumps(manifest).encode()),
        ):
            info = tarfile.TarInfo(file)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return archive


def test_runs_an_image_in_the_foreground(containerd: Containerd, name: str) -> None:
    done = containerd.run(name, "echo out; echo err >&2; exit 7", "--rm")
    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")
    assert containerd.status(name) == ""


def test_a_missing_command_is_an_error_and_leaves_nothing(containerd: Containerd, name: str) -> None:
    words = ["run", "--rm", "--snapshotter", "overlayfs", "--runtime", RUNTIME, IMAGE, name, "no-such-command"]
    done = containerd.ctr(*words, check=False)
    assert done.returncode == 1
    assert "no-such-command" in done.stderr
    assert containerd.status(name) == ""


def test_all_of_standard_input_arrives_and_its_end_too(containerd: Containerd, name: str) -> None:
    text = "".join(f"line {number}\n" for number in range(40_000))
    done = containerd.run(name, "cat", "--rm", text=text)
    assert done.returncode == 0, done.stderr
    assert done.stdout == text


def test_a_task_goes_through_its_life_and_every_event_is_told(
    containerd: Containerd, name: str, events: Callable[[str], list[tuple[str, dict[str, Any]]]]
) -> None:
    containerd.run(name, LOOP, "-d", check=True)
    assert containerd.status(name) == "RUNNING"
    done = containerd.ctr("tasks", "exec", "--exec-id", "one", name, "sh", "-c", "echo hi; exit 5", check=False)
    assert (done.returncode, done.stdout) == (5, "hi\n")
    assert str(containerd.pid(name)) in containerd.ctr("tasks", "ps", name).stdout
    table = dict(line.split(None, 1) for line in containerd.ctr("tasks", "metrics", name).stdout.splitlines() if line)
    assert int(table.get("memory.usage_in_bytes") or table["memory.usage"]) > 0
    containerd.ctr("tasks", "pause", name)
    assert containerd.status(name) == "PAUSED"
    containerd.ctr("tasks", "resume", name)
    assert containerd.status(name) == "RUNNING"
    refused = containerd.ctr("tasks", "delete", name, check=False)
    assert "must be stopped" in refused.stderr
    pid = containerd.pid(name)
    containerd.terminate(name)
    assert "exit code 9" in containerd.ctr("tasks", "delete", name).stderr
    until(lambda: len(events(name)) >= 9, "all events")
    heard = events(name)
    assert [topic.removeprefix("/tasks/") for topic, _ in heard] == [
        *("create", "start", "exec-added", "exec-started", "exit", "paused", "resumed", "exit", "delete"),
    ]
    assert heard[0][1]["bundle"].endswith(name)
    assert heard[0][1]["pid"] == heard[1][1]["pid"] == pid
    assert (heard[4][1]["id"], heard[4][1]["exit_status"]) == ("one", 5)
    assert (heard[7][1]["id"], heard[7][1]["exit_status"], heard[7][1]["pid"]) == (name, 9, pid)
    assert heard[8][1]["exit_status"] == 9


def test_an_exec_gets_the_input_that_came_before_it_was_started(containerd: Containerd, name: str) -> None:
    containerd.run(name, LOOP, "-d", check=True)
    words = ["tasks", "exec", "--fifo-dir", str(containerd.directory / "fifo"), "--exec-id", "one", name]
    done = containerd.ctr(*words, "head", "-n", "1", text="some words\n")  # ctr itself may miss the end of its input
    assert done.stdout == "some words\n"


def test_an_exec_is_listed_and_killed_by_its_name(containerd: Containerd, name: str) -> None:
    containerd.run(name, LOOP, "-d", check=True)
    fifos = str(containerd.directory / "fifo")
    containerd.ctr("tasks", "exec", "--detach", "--fifo-dir", fifos, "--exec-id", "long", name, "sleep", "1000")
    assert "long" in containerd.ctr("tasks", "ps", name).stdout
    containerd.ctr("tasks", "kill", "--exec-id", "long", "-s", "SIGKILL", name)
    until(lambda: len(containerd.ctr("tasks", "ps", name).stdout.splitlines()) <= 3, "the exec ends")
    assert containerd.status(name) == "RUNNING"


def test_a_detached_task_is_attached_to_later(containerd: Containerd, name: str) -> None:
    containerd.run(name, "read line; echo got $line; exit 4", "-d", check=True)
    done = containerd.ctr("tasks", "attach", name, check=False, text="word\n")
    assert done.returncode == 4, done.stderr
    assert "got word" in done.stdout


def test_output_goes_to_a_file_that_a_uri_names(containerd: Containerd, name: str) -> None:
    log = containerd.directory / f"{name}.log"
    containerd.run(name, "echo out; echo err >&2", "-d", "--log-uri", f"file://{log}", check=True)
    until(lambda: containerd.status(name) == "STOPPED", "the task ends")
    assert sorted(log.read_text().split()) == ["err", "out"]


def test_a_task_with_a_terminal(containerd: Containerd, name: str) -> None:
    command = ["ctr", "-a", str(containerd.socket), "-n", containerd.namespace, "run", "--rm", "-t"]
    command += ["--snapshotter", "overlayfs", "--runtime", RUNTIME, IMAGE, name]
    command += ["sh", "-c", 'test -t 0 && test -t 1 && read line && echo "<$line>" && exit 6']
    pid, master = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, containerd.environment)
    os.write(master, b"typed\n")
    seen = b""
    try:
        while chunk := os.read(master, 4096):
            seen += chunk
    except OSError:
        pass  # EIO: the other side is closed
    os.close(master)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 6, seen
    assert b"<typed>" in seen


def test_out_of_memory_is_told(
    containerd: Containerd, name: str, events: Callable[[str], list[tuple[str, dict[str, Any]]]]
) -> None:
    done = containerd.run(name, "exec tail /dev/zero", "--rm", "--memory-limit", str(16 << 20))
    assert done.returncode == 137
    until(lambda: "/tasks/delete" in [topic for topic, _ in events(name)], "all events")
    assert "/tasks/oom" in [topic for topic, _ in events(name)]


def test_out_of_memory_of_a_child_is_told_while_the_task_runs(
    containerd: Containerd, name: str, events: Callable[[str], list[tuple[str, dict[str, Any]]]]
) -> None:
    script = f"tail /dev/zero; {LOOP}"
    containerd.run(name, script, "-d", "--memory-limit", str(16 << 20), check=True)
    until(lambda: "/tasks/oom" in [topic for topic, _ in events(name)], "the event")
    assert containerd.status(name) == "RUNNING"
    containerd.ctr("tasks", "kill", "-s", "SIGKILL", name)
    until(lambda: "/tasks/exit" in [topic for topic, _ in events(name)], "the end")
    assert [topic for topic, _ in events(name)].count("/tasks/oom") == 1


def test_tasks_live_through_a_kill_of_containerd_and_are_found_again(containerd: Containerd, name: str) -> None:
    ends = f"{name}-ends"
    containerd.run(name, LOOP, "-d", check=True)
    containerd.run(ends, LOOP, "-d", check=True)
    try:
        pid, ending, shim = containerd.pid(name), containerd.pid(ends), containerd.shim_pid(name)
        containerd.kill()
        until(lambda: not _terminated(ending), "a task ends while containerd is away")
        containerd.start()
        until(lambda: containerd.status(ends) == "STOPPED", "the end is known")
        assert (containerd.status(name), containerd.pid(name)) == ("RUNNING", pid)
        assert containerd.shim_pid(name) == shim
        done = containerd.ctr("tasks", "exec", "--exec-id", "two", name, "echo", "still here")
        assert done.stdout == "still here\n"
        assert "exit code 9" in containerd.ctr("tasks", "delete", ends).stderr
        containerd.terminate(name)
        assert "exit code 9" in containerd.ctr("tasks", "delete", name).stderr
    finally:
        containerd.remove(ends)


def test_a_killed_shim_is_cleaned_up_and_its_tasks_end_told(
    containerd: Containerd, name: str, events: Callable[[str], list[tuple[str, dict[str, Any]]]]
) -> None:
    containerd.run(name, LOOP, "-d", check=True)
    pid = containerd.pid(name)
    os.kill(containerd.shim_pid(name), signal.SIGKILL)
    until(lambda: "/tasks/delete" in [topic for topic, _ in events(name)], "containerd tells of the end")
    exits = [event for topic, event in events(name) if topic == "/tasks/exit"]
    assert [event["exit_status"] for event in exits] == [137]
    assert not _lives(pid)
    until(lambda: containerd.status(name) in ("", "STOPPED"), "the task is gone")
    containerd.check_clean()


def _terminated(pid: int) -> bool:
    """Send SIGTERM; whether the process still lives."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    return _lives(pid)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_the_shims_messages_are_in_containerds_log(containerd: Containerd, name: str) -> None:
    containerd.run(name, "exit 0", "-d", check=True)
    assert "Traceback" not in containerd.log.read_text()
