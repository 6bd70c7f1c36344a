"""`orlop images`."""

from __future__ import annotations

from ....base import errors
from ....base.oci import reference as references
from .. import human, tables

TYPE_CHECKING = False
if TYPE_CHECKING:
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
    "Labels": "LABELS",
    "Containers": "CONTAINERS",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
FILTERS = ("reference", "dangling", "label", "before", "since")
NONE = "<none>"

_RAW = "".join(
    f"{name}: {{{{.{field}}}}}\n"
    for name, field in (
        ("repository", "Repository"),
        ("tag", "Tag"),
        ("image_id", "ID"),
        ("created_at", "CreatedAt"),
        ("virtual_size", "Size"),
    )
)


def _names(image: Image) -> dict[str, Any]:
    """The columns that differ between the names of one image."""
    if image.name.startswith("sha256:"):
        return {"Repository": NONE, "Tag": NONE}
    reference = references.parse_normalized(image.name)
    return {"Repository": reference.familiar_name, "Tag": reference.tag or NONE}


def _facts(images: Images, image: Image, now_ns: int, full: bool) -> dict[str, Any]:
    """The columns that tell of the image itself; what is not stored here is left unknown."""
    digest = image.target.digest
    row: dict[str, Any] = {
        "Containers": "N/A",
        "CreatedAt": "N/A",
        "CreatedSince": "N/A",
        "Digest": str(digest),
        "ID": str(digest) if full else digest.short,
        "Labels": {},
        "Platform": "",
        "SharedSize": "N/A",
        "Size": "0B",
        "UniqueSize": "N/A",
        "_created": 0,
    }
    try:
        resolved = images.read_any(image)
    except errors.OrlopError:
        return row
    row["Size"] = human.size(images.size(resolved))
    row["Platform"] = str(resolved.config.platform)
    row["Labels"] = dict(resolved.config.config.labels)
    if resolved.config.created:
        created = human.parse_time(resolved.config.created)
        row["_created"] = created
        row["CreatedAt"] = human.time_text(created)
        row["CreatedSince"] = human.ago(created, now_ns)
    return row


def _keep(rows: list[dict[str, Any]], wanted: list[str], name: str, images: Images) -> list[dict[str, Any]]:
    """Those that pass every filter, and whose name is as the argument, which may be a pattern."""
    from .. import filters

    groups = filters.grouped(wanted, FILTERS)
    if name:
        rows = _by_reference(rows, [name], whole_repository=True)
    for key, values in groups.items():
        if key == "reference":
            rows = _by_reference(rows, values)
        elif key == "dangling":
            dangling = filters.truth(key, values)
            rows = [row for row in rows if (row["Tag"] == NONE) == dangling]
        elif key == "label":
            rows = [row for row in rows if filters.has_labels(row["Labels"], values)]
        else:
            digest = str(images.get(values[0]).target.digest)
            pivot = next((row["_created"] for row in rows if row["Digest"] == digest), 0)
            rows = [row for row in rows if (row["_created"] < pivot if key == "before" else row["_created"] > pivot)]
    return rows


def _by_reference(
    rows: list[dict[str, Any]], values: list[str], whole_repository: bool = False
) -> list[dict[str, Any]]:
    """Those whose name, with or without its tag, one of the patterns matches.

    whole_repository: a name that is spelt out in full ("docker.io/library/alpine") means the same as the short one.
    """
    from .. import filters

    patterns = []
    for value in values:
        if whole_repository:
            try:
                reference = references.parse_normalized(value)
                value = reference.familiar()
            except errors.InvalidArgument:
                pass  # a pattern, or nothing that an image can be called
        patterns.append(filters.glob(value))
    return [
        row
        for row in rows
        if row["Repository"] != NONE
        and any(p.fullmatch(row["Repository"]) or p.fullmatch(f"{row['Repository']}:{row['Tag']}") for p in patterns)
    ]


def main(cli: Invocation) -> int:
    import time

    flags = cli.flags
    images = cli.engine.images
    now_ns, full, format = time.time_ns(), bool(flags.get("no-trunc")), flags.get("format", "")
    facts: dict[str, dict[str, Any]] = {}
    rows = []
    for image in images.list():
        digest = str(image.target.digest)
        if digest not in facts:
            facts[digest] = _facts(images, image, now_ns, full)
        rows.append({**facts[digest], **_names(image)})
    filters, name = flags.get("filter", []), cli.args[0] if cli.args else ""
    if filters or name:
        rows = _keep(rows, filters, name, images)
    rows.sort(key=lambda row: -row["_created"])
    for row in rows:
        del row["_created"]
    if flags.get("quiet"):
        for each in dict.fromkeys(row["ID"] for row in rows):
            cli.out(each)
        return 0
    columns = ["Repository", "Tag", *(["Digest"] if flags.get("digests") else []), "ID", "CreatedSince", "Size"]
    if format:
        from .. import template

        default = "\t".join(f"{{{{.{column}}}}}" for column in columns)
        text = template.render_list(format, rows, HEADERS, table=default, raw=_RAW, what="image")
        if text:
            cli.out(text)
        return 0
    cells = [[row[c] for c in columns] for row in rows]
    width = None if full else tables.terminal_width()
    cli.out(tables.render([HEADERS[c] for c in columns], cells, width=width, keep=(columns.index("ID"),)))
    return 0
