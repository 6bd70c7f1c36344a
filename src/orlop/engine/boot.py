"""After a reboot: what a power cut or a shutdown ended is told so, and what should run is started.

Also where a restart policy is read from a container's record; carried out it is by the monitor.
"""

from __future__ import annotations

import os

from ..base import errors, signals
from ..services.shim import exitfile, restart
from .containers import ACTIVE, Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .wiring import Wiring


def policy(config: dict[str, Any]) -> restart.Policy:
    """The restart policy in a record's "orlop.config"."""
    return restart.from_docker(config.get("restart"), signals.parse(config.get("stop_signal") or "SIGTERM"))


def boot(wiring: Wiring, failed: Callable[[Container, errors.OrlopError], object]) -> list[Container]:
    """Start, in all namespaces, what should run after a reboot; returns what was started.

    That is what was started before and has the policy "always", or "unless-stopped" and was not stopped by its user.
    What the reboot ended is written down as ended, and removed when it was made with --rm. Running containers are left
    alone, so that it may be called at any time. failed: is told of each that cannot be started; the rest goes on.
    """
    started = []
    for namespace in _namespaces(wiring):
        inside = wiring.in_namespace(namespace)
        for record in inside.containers.list():
            container = Container(inside, record)
            try:
                if _boot_one(container):
                    started.append(container)
            except errors.NotFound:
                continue  # removed meanwhile
            except errors.OrlopError as error:
                failed(container, error)
    return started


def _boot_one(container: Container) -> bool:
    """Whether it was started."""
    state = container.state()
    if state.status in ACTIVE or state.monitor_alive or state.status == "created":
        return False
    config = container.record.extensions.get("orlop.config", {})
    if config.get("remove"):
        container.remove(force=True, volumes=True)
        return False
    if exitfile.read_exit(container.record_dir) is None:
        ended = exitfile.Exited(state.exit_status or 0, state.exited_ns, 0, state.oom_killed, restarts=state.restarts)
        exitfile.write_exit(container.record_dir, ended, durable=True)
    if not restart.starts_at_boot(policy(config), os.path.exists(f"{container.record_dir}/{restart.STOPPED}")):
        container.finish()
        return False
    container.start()
    return True


def _namespaces(wiring: Wiring) -> list[str]:
    try:
        return sorted(os.listdir(f"{wiring.root}/containers"))
    except FileNotFoundError:
        return []
