"""The library as programs use it: many threads, a fork, namespaces, interruption, open and close; and its types."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from orlop import Engine
from orlop.base import errors
from orlop.base.cancel import Cancel
from tests.support import orlops
from tests.support.orlops import IMAGE, Orlop

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "engine-library") as opened:
        opened.import_busybox()
        yield opened


def in_threads(count: int, work: object) -> list[BaseException]:
    """Call `work(n)` in so many threads at once; returns what they raised."""
    raised: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            work(number)  # type: ignore[operator]
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_one_engine_serves_eight_threads_with_forty_containers(orlop: Orlop) -> None:
    engine = orlop.engine

    def work(number: int) -> None:
        for turn in range(5):
            done = engine.containers.run(IMAGE, ["sh", "-c", f"echo {number}-{turn}; exit {turn}"], remove=True)
            assert (done.output, done.exit_code) == (f"{number}-{turn}\n".encode(), turn)
            engine.containers.list(all=True)

    assert in_threads(8, work) == []
    assert list(engine.containers.list(all=True)) == []


def test_threads_that_remove_one_container_do_it_once(orlop: Orlop) -> None:
    container = orlop.engine.containers.run(IMAGE, ["sleep", "99"], detach=True)
    outputs: list[bytes] = []
    assert in_threads(4, lambda n: outputs.append(container.exec(["echo", str(n)]).output())) == []
    assert sorted(outputs) == [b"0\n", b"1\n", b"2\n", b"3\n"]
    raised = in_threads(4, lambda _: container.remove(force=True))
    assert all(isinstance(error, errors.NotFound) for error in raised)
    assert list(orlop.engine.containers.list(all=True)) == []


def test_an_engine_goes_on_in_a_forked_child_and_in_its_parent(orlop: Orlop) -> None:
    code = f"""
import os, sys
from orlop import Engine
engine = Engine.open(root={str(orlop.root)!r}, state={str(orlop.state)!r})
assert engine.containers.run({IMAGE!r}, ["true"], remove=True).exit_code == 0
pid = os.fork()
code = engine.containers.run({IMAGE!r}, ["sh", "-c", "exit 4"], remove=True).exit_code
engine.close()
if pid == 0:
    os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 4
sys.exit(code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (done.returncode, done.stderr) == (4, b"")


def test_namespaces_share_neither_images_nor_containers(orlop: Orlop) -> None:
    other = orlop.engine.in_namespace("another")
    container = orlop.engine.containers.create(IMAGE, ["true"], name="here")
    try:
        assert list(other.images.list()) == []
        assert list(other.containers.list(all=True)) == []
        with pytest.raises(errors.NotFound):
            other.containers.get("here")
        with pytest.raises(errors.NotFound):
            other.containers.get(container.id)
        with pytest.raises(errors.NotFound):
            other.images.get(IMAGE)
    finally:
        container.remove()
    with pytest.raises(errors.InvalidArgument):
        orlop.engine.in_namespace("../x")


def test_an_engine_may_be_opened_twice_closed_twice_and_used_again(orlop: Orlop) -> None:
    first = Engine.open(root=str(orlop.root), state=str(orlop.state))
    with first, Engine.open(root=str(orlop.root), state=str(orlop.state)) as second:
        assert [image.name for image in first.images.list()] == [image.name for image in second.images.list()]
    with first:
        assert len(first.images.list()) == 1
    first.close()
    first.close()


@pytest.mark.parametrize("remove", [True, False])
def test_an_interrupted_run_leaves_nothing_running(orlop: Orlop, remove: bool) -> None:
    engine, main = orlop.engine, threading.get_ident()

    def interrupt() -> None:
        orlops.wait_for("the container", lambda: len(engine.containers.list()))
        signal.pthread_kill(main, signal.SIGINT)

    helper = threading.Thread(target=interrupt)
    helper.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            engine.containers.run(IMAGE, ["sleep", "20"], remove=remove, name="cut-off")
    finally:
        helper.join()
    left = engine.containers.list(all=True)
    assert len(left) == (0 if remove else 1)
    for container in left:
        assert container.wait() == 137
        container.remove()


def test_a_cancelled_run_leaves_nothing_running(orlop: Orlop) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        orlop.engine.containers.run(IMAGE, ["sleep", "20"], remove=True, cancel=Cancel(timeout=1))
    assert list(orlop.engine.containers.list(all=True)) == []


def test_a_container_that_cannot_start_is_gone_with_remove_and_kept_without(orlop: Orlop) -> None:
    engine = orlop.engine
    for detach in (False, True):
        with pytest.raises(errors.CommandNotFound):
            engine.containers.run(IMAGE, ["/no/such/program"], remove=True, detach=detach)
        assert list(engine.containers.list(all=True)) == []
    with pytest.raises(errors.CommandNotFound):
        engine.containers.run(IMAGE, ["/no/such/program"], name="kept")
    engine.containers.get("kept").remove()


def test_the_examples_of_the_documentation_pass_strict_type_checks(tmp_path: Path) -> None:
    text = (ROOT / "docs/python.md").read_text() + (ROOT / "README.md").read_text()
    files = []
    for number, example in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL)):
        files.append(tmp_path / f"example{number}.py")
        files[-1].write_text(example)
    assert files
    argv = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--scripts-are-modules"]
    env = {**os.environ, "MYPYPATH": str(ROOT / "src")}
    for name in files:
        done = subprocess.run(
            [*argv, f"--cache-dir={tmp_path}/cache", str(name)],
            capture_output=True, text=True, timeout=120, cwd=tmp_path, env=env,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
