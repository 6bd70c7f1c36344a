"""`orlop wait`."""

from __future__ import annotations

from ._each import each

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    return each(cli, lambda container: str(container.wait()))
