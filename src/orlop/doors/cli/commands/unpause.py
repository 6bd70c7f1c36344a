"""`orlop unpause`."""

from __future__ import annotations

from ....engine import lifecycle
from ._each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ....engine.containers import Container
    from ..main import Invocation


def main(cli: Invocation) -> int:
    def unpause(container: Container) -> None:
        lifecycle.unpause(container)

    return each(cli, unpause)
