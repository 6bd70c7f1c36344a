"""The engine's tasks under Debian's containerd-shim-runc-v2: everything as with an OCI runtime."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.base.cancel import Cancel
from orlop.services.runtime import runtimes, tasks
from tests.support import bundle as bundles
from tests.support import orlops
from tests.support.shim import Place, processes_with, until

SHIM = "/usr/bin/containerd-shim-runc-v2"

pytestmark = [
    pytest.mark.peer,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.skipif(not os.path.exists(SHIM), reason="needs containerd-shim-runc-v2"),
]


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bundles.rootfs(tmp_path_factory.mktemp("rootfs"))


class ForeignPlace(Place):
    """A place whose containers run under the foreign shim."""

    def bundle(self, args: object, **options: object) -> Path:
        return super().bundle(args, **{"argv": [SHIM], "runtime_name": "containerd-shim-runc-v2", **options})  # type: ignore[arg-type]


@pytest.fixture
def place(tmp_path: Path, rootfs: Path) -> Iterator[ForeignPlace]:
    one = ForeignPlace(tmp_path, rootfs, "runc")
    sockets = Path("/run/containerd/s")
    before = set(sockets.glob("*"))
    yield one
    one.close()
    one.check_clean()
    left = [path for made in one.bundles for path in (tmp_path / "shim-runc").rglob(made.name)]
    assert left == []
    assert set(sockets.glob("*")) <= before


def output(attachment: tasks.Attachment) -> tuple[bytes, bytes]:
    found = {"stdout": b"", "stderr": b""}
    with attachment:
        for stream, data in attachment.frames(Cancel(60)):
            found[stream] += data
    return found["stdout"], found["stderr"]


def test_a_container_runs_to_its_end_and_everybody_is_told(place: ForeignPlace) -> None:
    task = place.create("sh", "-c", "echo out; echo err >&2; exit 3")
    assert place.state(task).status == "created"
    attachment = task.attach(owner=True)
    pid = task.start()
    assert pid > 1
    assert output(attachment) == (b"out\n", b"err\n")
    assert attachment.exit is not None
    assert attachment.exit.status == 3
    assert task.wait() == 3
    ended = place.state(task)
    assert (ended.status, ended.exit_status, ended.monitor_alive) == ("exited", 3, True)
    assert task.delete() == tasks.Exit(3, ended.exited_ns)
    task.shutdown()
    log = place.record(task) / f"{task.id}-json.log"
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert sorted((entry["stream"], entry["log"]) for entry in entries) == [("stderr", "err\n"), ("stdout", "out\n")]


def test_input_reaches_the_process_and_ends(place: ForeignPlace) -> None:
    task = place.create("cat", open_stdin=True)
    attachment = task.attach(stdin=True, owner=True)
    task.start()
    attachment.send(b"some words")
    attachment.close_stdin()
    assert output(attachment) == (b"some words", b"")
    assert task.wait(cancel=Cancel(30)) == 0


def test_exec_pause_update_and_kill(place: ForeignPlace) -> None:
    task = place.run("sleep", "1000")
    task.exec("e", bundles.process(["sh", "-c", "echo hi; exit 5"]))
    attachment = task.attach("e")
    task.start("e")
    assert output(attachment) == (b"hi\n", b"")
    assert task.wait(exec_id="e", cancel=Cancel(30)) == 5
    task.delete(exec_id="e")
    task.pause()
    assert task.state().status == "paused"
    task.resume()
    assert task.state().status == "running"
    task.update({"pids": {"limit": 99}})
    assert task.stats()["pids_limit"] == 99
    assert len(task.pids()) == 1
    task.kill(signal.SIGKILL)
    assert task.wait(cancel=Cancel(30)) == 137
    with pytest.raises(errors.NotFound):
        task.kill(signal.SIGTERM)


def test_a_terminal_is_the_shims(place: ForeignPlace) -> None:
    script = 'test -t 0 && read line && echo "<$line>" && /bin/busybox stty size'
    config = bundles.spec(["sh", "-c", script], container_id=f"terminal-{os.getpid()}", terminal=True)
    options = ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]
    config["mounts"].append({"destination": "/dev/pts", "type": "devpts", "source": "devpts", "options": options})
    bundle = str(place.bundle([], config=config, open_stdin=True))
    task = tasks.create(place.spawner, bundle, place.mounts, terminal=True)
    attachment = task.attach(stdin=True, owner=True, size=(100, 30))
    task.start()
    attachment.send(b"typed\n")
    out, err = output(attachment)
    assert b"<typed>" in out
    assert b"30 100" in out
    assert err == b""


@pytest.mark.parametrize(
    ("command", "error"), [("nope", errors.CommandNotFound), ("plain", errors.CommandNotExecutable)]
)
def test_a_command_that_cannot_be_run_is_told_as_such(
    place: ForeignPlace, command: str, error: type[errors.OrlopError]
) -> None:
    with pytest.raises(error):
        place.run(f"/bin/{command}")


def test_a_shim_that_dies_ends_its_container_and_is_cleaned_up(place: ForeignPlace) -> None:
    task = place.run("sleep", "1000")
    pid = task.state().pid
    (line,) = [line for line in processes_with(f"-id {task.id}") if SHIM in line]
    os.kill(int(line.split()[1].rstrip(":")), signal.SIGKILL)
    assert task.wait(cancel=Cancel(30)) == 137
    until(lambda: not os.path.exists(f"/proc/{pid}"), "the container's process is gone")
    assert task.delete() is not None


def test_a_killed_monitor_is_followed_by_one_that_knows_the_end_and_cleans_up(place: ForeignPlace) -> None:
    task = place.run("sh", "-c", 'trap "exit 9" TERM; while :; do sleep 0.05; done')
    (line,) = [line for line in processes_with(f"-id {task.id}") if SHIM in line]
    (monitor,) = {int(word) for word in _holders(task.bundle)}
    os.kill(monitor, signal.SIGKILL)
    until(lambda: not _holders(task.bundle), "the monitor is gone")
    with tasks.recover(place.spawner, task.bundle) as again:
        assert again.state().status == "running"
        again.exec("e", bundles.process(["sh", "-c", "exit 4"]))
        again.start("e")
        assert again.wait(exec_id="e", cancel=Cancel(30)) == 4
        again.kill(signal.SIGTERM)
        assert again.wait(cancel=Cancel(30)) == 9
        again.remove()
    until(lambda: not processes_with(f"-id {task.id}"), f"the shim is gone: {line}")


def _holders(bundle: str) -> list[str]:
    """Pids of the processes that hold the monitor's lock."""
    inode = os.stat(f"{bundle}/monitor.lock").st_ino
    return [line.split()[4] for line in Path("/proc/locks").read_text().splitlines() if f":{inode} " in line]


def test_the_command_line_runs_containers_under_a_shim(tmp_path: Path) -> None:
    runtime = ("--runtime", "io.containerd.runc.v2")
    with orlops.opened(tmp_path) as orlop:
        image = orlop.import_busybox()
        done = orlop.run("run", "--rm", *runtime, image, "sh", "-c", "echo hi; echo err >&2; exit 3", code=3)
        assert (done.stdout, done.stderr) == (b"hi\n", b"err\n")
        orlop.run("run", "-d", "--name", "one", *runtime, image, "sh", "-c", "echo logged; exec sleep 1000")
        assert orlop.out("exec", "one", "echo", "in") == "in"
        assert "nope" in orlop.run("exec", "one", "nope", code=127).stderr.decode()
        assert orlop.out("logs", "one") == "logged"
        assert orlop.out("inspect", "--format", "{{.HostConfig.Runtime}}", "one") == "io.containerd.runc.v2"
        orlop.run("stop", "-t", "0", "one")
        assert orlop.out("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "one") == "exited 137"
        orlop.run("start", "one")
        orlop.run("rm", "-f", "one")
        data = b"x" * 300_000
        assert orlop.run("run", "--rm", "-i", *runtime, image, "cat", stdin=data).stdout == data
        missing = orlop.run("run", "--rm", "--runtime", "io.containerd.none.v2", image, "true", code=125)
        assert "containerd-shim-none-v2 is not on the PATH" in missing.stderr.decode()
        assert orlop.out("ps", "-aq") == ""
        assert processes_with(f"{orlop.state}/s/") == []


def test_names_of_containerds_form_are_shims() -> None:
    assert runtimes.shim_program("io.containerd.runc.v2") == "containerd-shim-runc-v2"
    assert runtimes.shim_program("io.containerd.kata.v2") == "containerd-shim-kata-v2"
    for name in ("crun", "", "runc.v2", "a/b.c.v2", "io.containerd.runc", "io..v2", "io.containerd.runc.v"):
        assert runtimes.shim_program(name) == ""
    found = runtimes.find("io.containerd.runc.v2")
    assert (found.name, found.path, found.shim) == (
        "io.containerd.runc.v2",
        shutil.which("containerd-shim-runc-v2"),
        True,
    )
    assert found.argv("/state") == [found.path]
    with pytest.raises(errors.RuntimeFailed, match="containerd-shim-none-v1"):
        runtimes.find("io.containerd.none.v1")
