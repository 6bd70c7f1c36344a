"""`orlop restart`."""

from __future__ import annotations

from ....base import signals
from ....engine import lifecycle
from ._each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ....engine.containers import Container
    from ..main import Invocation


def main(cli: Invocation) -> int:
    signal = signals.parse(cli.flags["signal"]) if "signal" in cli.flags else None

    def restart(container: Container) -> None:
        lifecycle.restart(container, cli.flags.get("time"), signal)

    return each(cli, restart)
