"""What every test run shares: tiers, the leftover detector, the list of allowed skips, the disk file system.

Options: --full runs the long tier too; --ci fails on a skip that tests/allowed-skips.txt does not name (`make test`).
"""

from __future__ import annotations

import fcntl
import fnmatch
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

from tests.support import ext4 as _ext4  # noqa: E402
from tests.support import machine  # noqa: E402

_GRACE_S = float(os.environ.get("ORLOP_TEST_GRACE_S", "5"))
_LOCK = "/run/orlop-tests.lock"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="run the long tests too (make test-full)")
    parser.addoption("--ci", action="store_true", help="fail on skips that tests/allowed-skips.txt does not name")
    parser.addoption("--results", metavar="DIR", help="write a dated result file into this directory")


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(_Skips(config.getoption("--ci")), "orlop-skips")
    if config.getoption("--results"):
        config.pluginmanager.register(_Results(Path(config.getoption("--results"))), "orlop-results")
    if not config.option.collectonly and not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Leftovers(config), "orlop-leftovers")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    long = [item for item in items if item.get_closest_marker("full")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if not item.get_closest_marker("full")]


class _Skips:
    """Counts skips, and in CI fails the run when one is not on the list."""

    def __init__(self, strict: bool) -> None:
        self._strict = strict
        self._skipped: dict[str, str] = {}
        self._allowed = [
            line.split(" | ")[0].strip()
            for line in (ROOT / "tests/allowed-skips.txt").read_text().splitlines()
            if line.strip() and not line.startswith("#")
        ]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and not hasattr(report, "wasxfail"):
            self._skipped[report.nodeid] = _reason(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.skipped:
            self._skipped[report.nodeid] = _reason(report)

    def _unlisted(self) -> dict[str, str]:
        def listed(node: str) -> bool:
            return any(fnmatch.fnmatchcase(node, pattern) for pattern in self._allowed)

        return {node: reason for node, reason in self._skipped.items() if not listed(node)}

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self._strict and self._unlisted() and session.exitstatus in (0, 5):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.write_line(f"skipped: {len(self._skipped)}")
        for node, reason in self._unlisted().items() if self._strict else ():
            terminalreporter.write_line(f"SKIP NOT ALLOWED {node}: {reason} (tests/allowed-skips.txt)", red=True)


class _Leftovers:
    """Compares the machine before and after the run; something left fails it.

    Runs that share the machine hold one flock. While another one goes on, only what is certainly ours (by the mark in
    the environment, or by path) is judged: the rest may be the other's.
    """

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._left: list[str] = []
        self._mark = uuid.uuid4().hex
        os.environ[machine.MARK] = self._mark
        self._lock = -1
        if os.access(os.path.dirname(_LOCK), os.W_OK):
            self._lock = os.open(_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_SH)
        self._shared = not self._is_alone()
        self._before = machine.inventory()

    def _is_alone(self) -> bool:
        if self._lock < 0:
            return False
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_SH)

    def _roots(self) -> tuple[str, ...]:
        factory = getattr(self._config, "_tmp_path_factory", None)
        base = getattr(factory, "_basetemp", None)
        return (str(base),) if base else ()

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        deadline = time.monotonic() + _GRACE_S  # what ends by itself (an idle helper) gets a moment to do so
        while True:
            left = machine.left_over(self._before, machine.inventory())
            if self._shared or not self._is_alone():
                left = [line for line in left if machine.is_ours(line, self._mark, self._roots())]
            if not left or time.monotonic() > deadline:
                break
            time.sleep(0.1)
        self._left = left
        if left and session.exitstatus in (0, 5):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        if self._lock >= 0:
            os.close(self._lock)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        for line in self._left:
            terminalreporter.write_line(f"LEFT BEHIND {line}", red=True)
        if self._left:
            terminalreporter.write_line("`make clean-machine` removes what tests left", red=True)


class _Results:
    """Writes what a long run showed into a file to commit: when, on what, how many, what was slow or skipped."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._began = time.time()

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        stats = terminalreporter.stats
        kinds = ("passed", "failed", "error", "skipped", "xfailed", "deselected")
        ran = [report for kind in ("passed", "failed") for report in stats.get(kind, ())]
        slowest = sorted(ran, key=lambda report: -report.duration)[:15]
        when, system = time.gmtime(self._began), os.uname()
        commit = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True)
        lines = [
            f"# Test run of {time.strftime('%Y-%m-%d %H:%M', when)} UTC",
            "",
            f"Commit {commit.stdout.strip()}, Python {sys.version.split()[0]}, "
            f"Linux {system.release} {system.machine}, "
            f"{os.cpu_count()} cores. Exit status {int(exitstatus)} after {time.time() - self._began:.0f} s.",
            "",
            ", ".join(f"{len(stats[kind])} {kind}" for kind in kinds if stats.get(kind)),
            "",
            *(f"- {kind}: {report.nodeid}" for kind in ("failed", "error") for report in stats.get(kind, ())),
            *(f"- skipped: {report.nodeid}: {_reason(report)}" for report in stats.get("skipped", ())),
            *(f"- slow: {report.duration:.1f} s {report.nodeid}" for report in slowest),
        ]
        self._directory.mkdir(parents=True, exist_ok=True)
        target = self._directory / f"{time.strftime('%Y-%m-%d', when)}.md"
        target.write_text("\n".join(lines) + "\n")
        terminalreporter.write_line(f"results: {target}")


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


@pytest.fixture(scope="session")
def ext4(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The mount point of an ext4 with a journal, made for this run."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    with _ext4.mounted(str(tmp_path_factory.mktemp("disk"))) as point:
        yield Path(point)


@pytest.fixture
def ext4_dir(ext4: Path, request: pytest.FixtureRequest) -> Path:
    """A fresh directory on `ext4`. It goes with the file system: deleting between tests would only slow them."""
    directory = ext4 / f"{abs(hash(request.node.nodeid)):x}-{uuid.uuid4().hex[:8]}"
    directory.mkdir(mode=0o755)
    return directory
