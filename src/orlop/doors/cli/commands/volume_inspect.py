"""`orlop volume inspect`."""

from __future__ import annotations

from ....base import errors, jsonio
from ..main import told

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..main import Invocation


def main(cli: Invocation) -> int:
    volumes = cli.engine.volumes
    found, code = [], 0
    for name in cli.args:
        try:
            one = volumes.inspect(name)
            if cli.flags.get("size"):
                one["UsageData"] = {"Size": volumes.size(volumes.get(name)), "RefCount": len(volumes.users(name))}
        except errors.NotFound as error:
            cli.warn(told(error))
            code = 1
        else:
            found.append(one)
    if cli.flags.get("format") and cli.flags["format"] != "json":
        from .. import template

        for one in found:
            cli.out(template.render(cli.flags["format"], one))
    else:
        cli.out(jsonio.dumps(found, indent=None if cli.flags.get("format") else 4))
    return code
