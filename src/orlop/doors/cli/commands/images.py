"""`orlop images`."""

from __future__ import annotations

from ....base import errors
from ....base.oci import reference as references
from .. import human, tables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from ....engine.images import Images
    from ....stores.images.api import Image
    from ..main import Invocation

HEADERS = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Platform": "PLATFORM",
}


def _row(images: Images, image: Image, now_ns: int, full: bool) -> dict[str, Any]:
    repository, tag = "<none>", "<none>"
    if not image.name.startswith("sha256:"):
        reference = references.parse_normalized(image.name)
        repository, tag = reference.familiar_name, reference.tag or "<none>"
    digest = image.target.digest
    row: dict[str, Any] = {
        "Repository": repository,
        "Tag": tag,
        "Digest": str(digest),
        "ID": str(digest) if full else digest.short,
        "CreatedAt": "N/A",
        "CreatedSince": "N/A",
        "Size": "0B",
        "Platform": "",
        "Labels": {},
        "_created": 0,
    }
    try:
        resolved = images.read(image)
    except errors.OrlopError:
        try:
            resolved = images.read(image, _any_platform(image))
        except errors.OrlopError:
            return row
    row["Size"] = human.size(images.size(resolved))
    row["Platform"] = str(resolved.config.platform)
    row["Labels"] = dict(resolved.config.config.labels)
    if resolved.config.created:
        created = human.parse_time(resolved.config.created)
        row["_created"] = created
        row["CreatedAt"] = human.time_text(created)
        row["CreatedSince"] = human.duration(now_ns - created) + " ago"
    return row


def _any_platform(image: Image) -> Any:
    platform = image.target.platform
    if platform is None:
        raise errors.NotFound(f"{image.name}: no platform that is stored here")
    return platform


def _test(key: str, value: str, rows: list[dict[str, Any]]) -> Callable[[dict[str, Any]], bool]:
    """The test that a filter KEY=VALUE stands for."""
    import fnmatch

    if key == "reference":

        def by_reference(row: dict[str, Any]) -> bool:
            return any(fnmatch.fnmatch(t, value) for t in (row["Repository"], f"{row['Repository']}:{row['Tag']}"))

        return by_reference
    if key == "dangling":
        wanted = value.lower() in ("true", "1")

        def by_dangling(row: dict[str, Any]) -> bool:
            return bool(row["Repository"] == "<none>") == wanted

        return by_dangling
    if key == "label":
        label, has_value, wanted_value = value.partition("=")

        def by_label(row: dict[str, Any]) -> bool:
            return label in row["Labels"] and (not has_value or bool(row["Labels"][label] == wanted_value))

        return by_label
    if key in ("before", "since"):
        base = references.parse_normalized(value).with_default_tag().familiar()
        created = next((row["_created"] for row in rows if f"{row['Repository']}:{row['Tag']}" == base), None)
        if created is None:
            raise errors.NotFound(f"no such image: {value}")

        def by_time(row: dict[str, Any]) -> bool:
            return bool(row["_created"] < created if key == "before" else row["_created"] > created)

        return by_time
    raise errors.UsageError(f"invalid filter '{key}'", advice="use reference, dangling, label, before or since")


def _keep(rows: list[dict[str, Any]], filters: list[str], name: str) -> list[dict[str, Any]]:
    if name:
        reference = references.parse_normalized(name)
        rows = [
            row
            for row in rows
            if row["Repository"] == reference.familiar_name and (not reference.tag or row["Tag"] == reference.tag)
        ]
    for text in filters:
        key, equals, value = text.partition("=")
        if not equals:
            raise errors.UsageError(f"invalid filter {text!r}: it has no '='")
        test = _test(key, value, rows)
        rows = [row for row in rows if test(row)]
    return rows


def main(cli: Invocation) -> int:
    import time

    flags = cli.flags
    images = cli.engine.images
    now_ns = time.time_ns()
    rows = [_row(images, image, now_ns, bool(flags.get("no-trunc"))) for image in images.list()]
    rows = _keep(rows, flags.get("filter", []), cli.args[0] if cli.args else "")
    rows.sort(key=lambda row: -row["_created"])
    for row in rows:
        del row["_created"]
    if flags.get("quiet"):
        for each in dict.fromkeys(row["Digest"] if flags.get("no-trunc") else row["ID"] for row in rows):
            cli.out(each)
        return 0
    if flags.get("format"):
        from .. import template

        text = template.render_list(flags["format"], rows, HEADERS)
        if text:
            cli.out(text)
        return 0
    columns = ["Repository", "Tag", *(["Digest"] if flags.get("digests") else []), "ID", "CreatedSince", "Size"]
    cli.out(tables.render([HEADERS[c] for c in columns], [[row[c] for c in columns] for row in rows]))
    return 0
