"""`orlop inspect`."""

from __future__ import annotations

from ....base import errors, jsonio

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from ..main import Invocation


def _one(cli: Invocation, text: str, kind: str) -> dict[str, Any]:
    if kind in ("", "container"):
        try:
            container = cli.engine.containers.get(text)
        except errors.NotFound:
            if kind:
                raise
        else:
            told = container.inspect()
            if cli.flags.get("size"):
                told["SizeRw"], told["SizeRootFs"] = container.sizes()
            return told
    try:
        return cli.engine.images.inspect(text)
    except errors.NotFound:
        if kind:
            raise
        raise errors.NotFound(f"no such object: {text}") from None


def main(cli: Invocation) -> int:
    kind = cli.flags.get("type", "")
    if kind not in ("", "container", "image"):
        raise errors.UsageError(f"unknown type: {kind!r}", advice="use container or image")
    told, code = [], 0
    for text in cli.args:
        try:
            told.append(_one(cli, text, kind))
        except errors.NotFound as error:
            cli.warn(f"orlop: {error.message}")
            code = 1
    if cli.flags.get("format") and cli.flags["format"] != "json":
        from .. import template

        for each in told:
            cli.out(template.render(cli.flags["format"], each))
    else:
        cli.out(jsonio.dumps(told, indent=None if cli.flags.get("format") else 4))
    return code
