"""`orlop tag`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    cli.engine.images.tag(cli.args[0], cli.args[1])
    return 0
