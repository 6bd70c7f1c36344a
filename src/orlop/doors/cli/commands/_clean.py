"""What a container's monitor starts when the container has ended and nobody is attached: clears the task away.

Not for people. A container made with --rm is removed; any other keeps its record, logs and files.
"""

from __future__ import annotations

from ....base import errors

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    try:
        cli.engine.containers.get(cli.args[0]).finish()
    except errors.NotFound:
        pass
    return 0
