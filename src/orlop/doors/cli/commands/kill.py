"""`orlop kill`."""

from __future__ import annotations

from ....base import signals
from ._each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ....engine.containers import Container
    from ..main import Invocation


def main(cli: Invocation) -> int:
    signal = signals.parse(cli.flags.get("signal", "KILL"))

    def kill(container: Container) -> None:
        container.kill(signal)

    return each(cli, kill)
