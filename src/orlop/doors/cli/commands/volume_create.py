"""`orlop volume create`."""

from __future__ import annotations

from ....base import errors
from .create import key_values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    options = {}
    for item in cli.flags.get("opt", ()):
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise errors.UsageError(f"invalid argument {item!r} for --opt: use KEY=VALUE")
        options[key] = value
    made = cli.engine.volumes.create(
        cli.args[0] if cli.args else "",
        driver=cli.flags.get("driver", "local"),
        options=options,
        labels=key_values(cli.flags.get("label", []), "label"),
    )
    cli.out(made.name)
    return 0
