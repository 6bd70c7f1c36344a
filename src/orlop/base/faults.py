"""Fault points: named places between two steps of work that must survive a crash at each of them.

A store calls `point("content.commit.renamed")` between its steps. Nothing happens unless a test has set `hook` in its
own process: the hook kills the process or raises what a full disk would. Nothing outside the process can set it.
May import nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

hook: Callable[[str], object] | None = None
"""Called with the name of every point that is passed; None outside tests."""


def point(name: str) -> None:
    """Say that work has come to the place `name` ("room.verb.step")."""
    if hook is not None:
        hook(name)
