"""Doing one thing to each of several containers: errors are told one by one, the rest goes on (as Docker does)."""

from __future__ import annotations

from ....base import errors
from ..main import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ....engine.containers import Container
    from ..main import Invocation


def each(cli: Invocation, do: Callable[[Container], str | None], *, missing_is_fine: bool = False) -> int:
    """Call `do` for every container named; prints the name as given, or what `do` returns. Returns 1 if any failed."""
    code = 0
    for text in cli.args:
        try:
            answer = do(cli.engine.containers.get(text))
        except errors.OrlopError as error:
            if missing_is_fine and isinstance(error, errors.NotFound):
                continue
            cli.warn(told(error))
            code = 1
        else:
            cli.out(text if answer is None else answer)
    return code
