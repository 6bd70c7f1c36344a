"""`orlop update`."""

from __future__ import annotations

from ....engine import lifecycle
from .. import runflags
from ._each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ....engine.containers import Container
    from ..main import Invocation


def main(cli: Invocation) -> int:
    def warn(text: str) -> None:
        cli.warn(f"WARNING: {text}")

    asked = runflags.options(cli.flags, [], (), warn)

    def update(container: Container) -> None:
        for warning in lifecycle.update(cli.engine.wiring, container, asked):
            warn(warning)

    return each(cli, update)
