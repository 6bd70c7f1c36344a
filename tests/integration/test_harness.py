"""The net that every test run works over: what is left behind is found, a skip that nobody allowed fails."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def _pytest(directory: Path, tests: str, *options: str) -> tuple[int, str]:
    """Run pytest with the house's conftest on a file of its own; returns exit code and output."""
    (directory / "test_inner.py").write_text(f"import os, subprocess, pytest\n{tests}\n")
    argv = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-p", "no:cacheprovider", f"--rootdir={directory}"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "ORLOP_TEST_GRACE_S": "0"}
    with (directory / "log").open("w+") as log:  # what is left behind would hold a pipe
        code = subprocess.run(
            [*argv, f"--basetemp={directory}/base", *options, "test_inner.py"],
            cwd=directory, env=environ, stdout=log, stderr=log, timeout=60, check=False,
        ).returncode  # fmt: skip
        log.seek(0)
        return code, log.read()


def test_a_clean_run_passes(tmp_path: Path) -> None:
    code, output = _pytest(tmp_path, "def test_it(tmp_path): subprocess.run(['true'])", "--ci")
    assert code == 0, output
    assert "skipped: 0" in output


def test_a_process_left_behind_fails_the_run_and_is_named(tmp_path: Path) -> None:
    code, output = _pytest(tmp_path, "def test_it(): subprocess.Popen(['sleep', '1234'], start_new_session=True)")
    found = re.search(r"LEFT BEHIND process: (\d+) sleep 1234", output)
    assert found, output
    os.kill(int(found[1]), signal.SIGKILL)
    assert code == 1


def test_a_mount_left_behind_fails_the_run_and_is_named(tmp_path: Path) -> None:
    code, output = _pytest(
        tmp_path, "def test_it(tmp_path): subprocess.run(['mount', '-t', 'tmpfs', 'none', tmp_path], check=True)"
    )
    found = re.search(r"LEFT BEHIND mount: (\S+) \(tmpfs\)", output)
    assert found, output
    subprocess.run(["umount", found[1]], check=True)
    assert code == 1


def test_a_skip_that_is_not_listed_fails_in_ci_only(tmp_path: Path) -> None:
    tests = "def test_it(): pytest.skip('no such peer')"
    assert _pytest(tmp_path, tests)[0] == 0
    code, output = _pytest(tmp_path, tests, "--ci")
    assert code == 1
    assert "SKIP NOT ALLOWED test_inner.py::test_it: Skipped: no such peer" in output


def test_a_skipped_module_counts_as_a_skip(tmp_path: Path) -> None:
    assert _pytest(tmp_path, "pytest.importorskip('no_such_module')", "--ci")[0] == 1


def test_long_tests_run_only_when_asked(tmp_path: Path) -> None:
    tests = "def test_short(): pass\n@pytest.mark.full\ndef test_long(): pass"
    assert "1 passed, 1 deselected" in _pytest(tmp_path, tests)[1]
    assert "2 passed" in _pytest(tmp_path, tests, "--full")[1]


def test_the_disk_of_tests_is_an_ext4_with_a_journal(ext4_dir: Path) -> None:
    mount = subprocess.run(
        ["findmnt", "-no", "FSTYPE,SOURCE", "-T", ext4_dir], capture_output=True, text=True, check=True
    )
    kind, device = mount.stdout.split()
    assert kind == "ext4"
    assert Path(f"/proc/fs/jbd2/{Path(device).name}-8").exists()
