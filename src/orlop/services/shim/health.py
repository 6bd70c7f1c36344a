"""What health checks make of a container: Docker's state machine, and the file in which its state is kept.

health.json stands in the container's record directory; its monitor writes it, everyone else reads it without asking.
May import only the interpreter's cheap modules: `ps` comes through here for containers that have checks.
"""

from __future__ import annotations

from ...base import fsio, jsonio
from ...base.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FILE = "health.json"
STARTING, HEALTHY, UNHEALTHY = "starting", "healthy", "unhealthy"
TIMED_OUT = -1
"""The exit code of a check that did not end in time, or could not be started."""
KEPT_RESULTS = 5
KEPT_BYTES = 4096
_DEFAULT_INTERVAL_NS = 30_000_000_000
_DEFAULT_TIMEOUT_NS = 30_000_000_000
_DEFAULT_START_INTERVAL_NS = 5_000_000_000
_DEFAULT_RETRIES = 3


class Check(Record):
    """What to run, and when. args: the command in the container. Times in nanoseconds.

    A check that has not ended after timeout_ns is killed and has failed. Within start_period_ns of the container's
    start, and before the first success, failures do not count and checks come every start_interval_ns. retries:
    failures in a row that make it unhealthy.
    """

    args: tuple[str, ...]
    interval_ns: int = _DEFAULT_INTERVAL_NS
    timeout_ns: int = _DEFAULT_TIMEOUT_NS
    start_period_ns: int = 0
    start_interval_ns: int = _DEFAULT_START_INTERVAL_NS
    retries: int = _DEFAULT_RETRIES


class Result(Record):
    """One check. Times in ns since the epoch; output: standard output and error, at most KEPT_BYTES."""

    start_ns: int
    end_ns: int
    exit_code: int
    output: str


class Health(Record):
    """status: "starting", "healthy" or "unhealthy". log: the last results, oldest first."""

    status: str = STARTING
    streak: int = 0
    log: tuple[Result, ...] = ()


def from_docker(said: Any, shell: tuple[str, ...] = ("/bin/sh", "-c")) -> Check | None:
    """The check that a Docker Healthcheck object asks for; None for none, and for NONE. shell: for CMD-SHELL."""
    if not isinstance(said, dict):
        return None
    test = said.get("Test") or []
    if len(test) < 2 or test[0] not in ("CMD", "CMD-SHELL"):
        return None
    args = tuple(test[1:]) if test[0] == "CMD" else (*shell, test[1])
    return Check(
        args,
        said.get("Interval") or _DEFAULT_INTERVAL_NS,
        said.get("Timeout") or _DEFAULT_TIMEOUT_NS,
        said.get("StartPeriod") or 0,
        said.get("StartInterval") or _DEFAULT_START_INTERVAL_NS,
        said.get("Retries") or _DEFAULT_RETRIES,
    )


def process_of(spec: dict[str, Any], check: Check) -> dict[str, Any]:
    """The OCI process object of a check: the container's own, with another command and no terminal."""
    kept = {name: value for name, value in spec["process"].items() if name not in ("terminal", "consoleSize")}
    return {**kept, "args": list(check.args)}


def after(health: Health, check: Check, result: Result, started_ns: int) -> Health:
    """The health once this result is known. started_ns: when the container was started."""
    log = (*health.log, result)[-KEPT_RESULTS:]
    if result.exit_code == 0:
        return Health(HEALTHY, 0, log)
    if health.status == STARTING and result.start_ns - started_ns < check.start_period_ns:
        return health.replace(log=log)
    streak = health.streak + 1
    return Health(UNHEALTHY if streak >= check.retries else health.status, streak, log)


def pause_ns(health: Health, check: Check, now_ns: int, started_ns: int) -> int:
    """How long until the next check."""
    if health.status == STARTING and now_ns - started_ns < check.start_period_ns:
        return check.start_interval_ns
    return check.interval_ns


def read(directory: str) -> Health | None:
    """The health kept in a record directory, None when there is none."""
    try:
        said = jsonio.loads(fsio.read_file(f"{directory}/{FILE}", 1 << 18))
        log = tuple(
            Result(int(one["start_ns"]), int(one["end_ns"]), int(one["exit_code"]), str(one["output"]))
            for one in said["log"]
        )
        return Health(str(said["status"]), int(said["streak"]), log)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write(directory: str, health: Health) -> None:
    """Keep it. Raises OSError."""
    said = {"status": health.status, "streak": health.streak, "log": [one.as_dict() for one in health.log]}
    fsio.write_atomic(f"{directory}/{FILE}", jsonio.dump_bytes(said), durable=False)
