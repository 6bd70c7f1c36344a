"""`orlop pause`."""

from __future__ import annotations

from ....engine import lifecycle
from ._each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ....engine.containers import Container
    from ..main import Invocation


def main(cli: Invocation) -> int:
    def pause(container: Container) -> None:
        lifecycle.pause(container)

    return each(cli, pause)
