"""Health checks on a real kernel: run by the monitor, told by ps and inspect."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from tests.support import orlops
from tests.support.orlops import IMAGE, Orlop

LOOP = "while :; do sleep 0.05; done"
FAST = ("--health-interval", "50ms", "--health-retries", "2")


@pytest.fixture(scope="module")
def orlop(ext4: Path) -> Iterator[Orlop]:
    with orlops.opened(ext4 / "health") as opened:
        opened.import_busybox()
        yield opened


@pytest.fixture(autouse=True)
def nothing_left(orlop: Orlop) -> Iterator[None]:
    yield
    for container in orlop.engine.containers.list(all=True):
        container.remove(force=True)


def health(orlop: Orlop) -> dict[str, Any]:
    found: dict[str, Any] = orlop.engine.containers.get("one").inspect()["State"]["Health"]
    return found


def run(orlop: Orlop, command: str, *flags: str, image: str = IMAGE) -> None:
    orlop.run("run", "-d", "--name", "one", "--health-cmd", command, *FAST, *flags, image, "sh", "-c", LOOP)


def wait_for(orlop: Orlop, status: str) -> None:
    orlops.wait_for(f"health {status}", lambda: health(orlop)["Status"] == status)


def test_health_follows_the_checks(orlop: Orlop) -> None:
    run(orlop, "echo looked; echo twice >&2; test -e /ok")
    wait_for(orlop, "unhealthy")
    assert "(unhealthy)" in orlop.out("ps", "--filter", "health=unhealthy", "--format", "{{.Status}}")
    assert health(orlop)["FailingStreak"] >= 2
    assert health(orlop)["Log"][-1]["ExitCode"] == 1
    assert sorted(health(orlop)["Log"][-1]["Output"].split()) == ["looked", "twice"]
    orlop.run("exec", "one", "touch", "/ok")
    wait_for(orlop, "healthy")
    assert "(healthy)" in orlop.out("ps", "--filter", "health=healthy", "--format", "{{.Status}}")
    assert orlop.out("ps", "-q", "--filter", "health=none") == ""
    orlops.wait_for("five results", lambda: len(health(orlop)["Log"]) == 5)
    assert health(orlop)["FailingStreak"] == 0
    assert orlop.out("logs", "one") == ""


def test_before_its_first_result_it_is_starting(orlop: Orlop) -> None:
    run(orlop, "true", "--health-interval", "1h")
    assert "(health: starting)" in orlop.out("ps", "--filter", "health=starting", "--format", "{{.Status}}")
    assert health(orlop) == {"Status": "starting", "FailingStreak": 0, "Log": []}


def test_a_check_that_takes_too_long_is_killed_and_has_failed(orlop: Orlop) -> None:
    run(orlop, "exec sleep 1000", "--health-timeout", "300ms")
    wait_for(orlop, "unhealthy")
    last = health(orlop)["Log"][-1]
    assert last["ExitCode"] == -1
    assert last["Output"] == "Health check exceeded timeout (0.3s)"
    orlop.run("pause", "one")
    orlop.run("unpause", "one")
    orlop.run("stop", "-t", "0", "one")
    assert orlop.engine.containers.get("one").status == "exited"


def test_failures_in_the_start_period_do_not_count_and_output_is_cut(orlop: Orlop) -> None:
    many = "head -c 10000 /dev/zero | tr '\\0' x; false"
    run(orlop, many, "--health-start-period", "1h", "--health-start-interval", "50ms", "--health-interval", "1h")
    orlops.wait_for("three results", lambda: len(health(orlop)["Log"]) >= 3)
    found = health(orlop)
    assert (found["Status"], found["FailingStreak"]) == ("starting", 0)
    assert found["Log"][0]["Output"] == "x" * 4096


def test_a_restart_begins_the_health_anew(orlop: Orlop) -> None:
    run(orlop, "true")
    wait_for(orlop, "healthy")
    orlop.run("restart", "-t", "0", "one")
    wait_for(orlop, "healthy")


def test_the_image_s_check_is_run_and_can_be_switched_off(orlop: Orlop) -> None:
    changes = ['CMD ["sh", "-c", "sleep 1000"]', 'HEALTHCHECK --interval=50ms CMD ["nothing-like-it"]']
    orlop.engine.images.import_(BytesIO(orlops.rootfs_tar()), "checked:test", changes=changes)
    orlop.run("run", "-d", "--name", "one", "--health-retries", "1", "checked:test")
    wait_for(orlop, "unhealthy")
    assert "nothing-like-it" in health(orlop)["Log"][-1]["Output"]
    orlop.run("rm", "-f", "one")
    orlop.run("run", "-d", "--name", "one", "--no-healthcheck", "checked:test")
    assert "Health" not in orlop.engine.containers.get("one").inspect()["State"]
    assert "health" not in orlop.out("ps", "--format", "{{.Status}}")


def test_without_its_monitor_nobody_claims_to_know_its_health(orlop: Orlop) -> None:
    run(orlop, "true")
    wait_for(orlop, "healthy")
    bundle = orlop.engine.containers.get("one").bundle
    inode = os.stat(f"{bundle}/monitor.lock").st_ino
    locks = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
    (monitor,) = [int(f[4]) for f in locks if f[1] == "FLOCK" and int(f[5].split(":")[2]) == inode]
    os.kill(monitor, signal.SIGKILL)
    orlops.wait_for("its loss", lambda: not orlop.engine.containers.get("one").state().monitor_alive)
    assert "(monitor lost)" in orlop.out("ps", "--filter", "health=none", "--format", "{{.Status}}")
    assert orlop.out("ps", "-q", "--filter", "health=healthy") == ""
