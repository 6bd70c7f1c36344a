"""`orlop rm`."""

from __future__ import annotations

from ._each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ....engine.containers import Container
    from ..main import Invocation


def main(cli: Invocation) -> int:
    force = bool(cli.flags.get("force"))

    def remove(container: Container) -> None:
        container.remove(force=force, volumes=bool(cli.flags.get("volumes")))

    return each(cli, remove, missing_is_fine=force)
