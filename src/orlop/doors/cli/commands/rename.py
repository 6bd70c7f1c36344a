"""`orlop rename`."""

from __future__ import annotations

from ....engine import lifecycle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    engine = cli.engine
    lifecycle.rename(engine.wiring, engine.containers.get(cli.args[0]), cli.args[1])
    return 0
