"""Restart policies: what they say, when the next start is due. Pure but for the policy's file and the user's stop.

The policy stands in the bundle's restart.json (written by the engine, and again by `update`), read by the monitor at
each end; a bundle without that file has none, and this module is then not loaded. The numbers are Docker's
(restartmanager): 100 ms before the first restart, doubled up to a minute, and 100 ms again once it has run for 10 s.
May import only the interpreter's cheap modules.
"""

from __future__ import annotations

from ...base import fsio, jsonio
from ...base.record import Record
from . import exitfile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

POLICY = "restart.json"
STOPPED = "stopped"
"""In the container's record directory: its user has stopped it, and no reboot starts it again ("unless-stopped")."""

FIRST_S = 0.1
LONGEST_S = 60.0
SETTLED_NS = 10_000_000_000
"""Who has run for so long begins with FIRST_S again."""
STOPPING_SIGNALS = frozenset((2, 3, 9, 15))
"""Signals by which a user ends a container, beside its own stop signal: SIGINT, SIGQUIT, SIGKILL, SIGTERM."""


class Policy(Record):
    """name: "no", "always", "unless-stopped" or "on-failure". maximum: restarts on-failure makes at most, 0: no limit.

    stop_signal: the container's own, by number.
    """

    name: str
    maximum: int = 0
    stop_signal: int = 15


class Progress(Record):
    """restarts: made so far. delay_s: how long the last one was put off, 0.0 before the first."""

    restarts: int = 0
    delay_s: float = 0.0


def decide(policy: Policy, progress: Progress, exit_status: int, ran_ns: int) -> Progress | None:
    """The progress after one restart more, to be made after its delay_s; None when it is to stay ended.

    ran_ns: how long it ran. A user's stop is not looked at here: who knows of one does not ask.
    """
    if policy.name == "on-failure":
        if exit_status == 0 or (policy.maximum and progress.restarts >= policy.maximum):
            return None
    elif policy.name not in ("always", "unless-stopped"):
        return None
    before = 0.0 if ran_ns >= SETTLED_NS else progress.delay_s
    return Progress(progress.restarts + 1, min(before * 2, LONGEST_S) if before else FIRST_S)


def starts_at_boot(policy: Policy, stopped: bool) -> bool:
    """Whether a container that was started once is to run after a reboot. stopped: by its user."""
    return policy.name == "always" or (policy.name == "unless-stopped" and not stopped)


def ends_it(policy: Policy, signal: int) -> bool:
    """Whether this signal, sent by a user, means that the container is to stay ended."""
    return signal in STOPPING_SIGNALS or signal == policy.stop_signal


def from_docker(said: Any, stop_signal: int = 15) -> Policy:
    """The policy that a Docker RestartPolicy object stands for; "no" for what is none."""
    if not isinstance(said, dict):
        return Policy("no")
    count = said.get("MaximumRetryCount")
    return Policy(str(said.get("Name") or "no"), count if isinstance(count, int) else 0, stop_signal)


def read(bundle: str) -> Policy:
    """The policy of a bundle, "no" when it has none that can be read."""
    try:
        said = jsonio.loads(fsio.read_file(f"{bundle}/{POLICY}", 1 << 12))
        return Policy(str(said["name"]), int(said["maximum"]), int(said["stop_signal"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Policy("no")


def write(bundle: str, policy: Policy) -> None:
    """Give a bundle its policy; "no" takes it away. Raises OSError."""
    if policy.name == "no":
        exitfile.unlink_quietly(f"{bundle}/{POLICY}")
    else:
        fsio.write_atomic(f"{bundle}/{POLICY}", jsonio.dump_bytes(policy.as_dict()), durable=False)
