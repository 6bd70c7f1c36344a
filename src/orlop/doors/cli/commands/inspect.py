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


_MAPS = (
    ("Config", "Labels"),
    ("Config", "ExposedPorts"),
    ("Config", "Volumes"),
    ("HostConfig", "LogConfig", "Config"),
    ("NetworkSettings", "Ports"),
    ("NetworkSettings", "Networks"),
)
"""Members that are maps, whatever their keys look like: a template may ask them for a key that is not there."""


def _with_maps(told: dict[str, Any]) -> dict[str, Any]:
    from ..template import Map, NilMap

    for *path, last in _MAPS:
        owner: Any = told
        for name in path:
            owner = owner.get(name, {})
        if last in owner:
            owner[last] = NilMap() if owner[last] is None else Map(owner[last])
    return told


def main(cli: Invocation) -> int:
    kind = cli.flags.get("type", "")
    if kind not in ("", "container", "image"):
        raise errors.UsageError(f"unknown type: {kind!r}", advice="use container or image")
    told, missing = [], []
    for text in cli.args:
        try:
            told.append(_one(cli, text, kind))
        except errors.NotFound as error:
            missing.append(error.message)
    if cli.flags.get("format"):
        from .. import template

        text = template.render_inspect(cli.flags["format"], map(_with_maps, told))
        if text or told:
            cli.out(text)
    else:
        cli.out(jsonio.dumps(told, indent=4))
    for message in missing:
        cli.warn(f"orlop: {message}")
    return 1 if missing else 0
