"""The container store on this machine: rows of the metadata database. Touches no file and starts nothing."""

from __future__ import annotations

from ...base import errors
from ..events.publish import publish
from ..metadata import containers as rows
from ..metadata import identifiers
from ..metadata import labels as _labels
from .api import Container

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from ..metadata import filters as _filters
    from ..metadata.database import Database

NAME_LABEL = "orlop.dev/name"
_CHANGEABLE = frozenset(
    {"name", "image", "image_digest", "spec", "snapshotter", "snapshot_key", "sandbox_id", "labels", "extensions"}
)


class LocalContainerStore:
    """The containers of one namespace. Safe to use from any thread.

    Publishes /containers/create, /update and /delete.
    """

    def __init__(self, db: Database, root: str, namespace: str) -> None:
        self._db = db
        self._root = root
        self._namespace = namespace

    def get(self, id: str) -> Container:
        """By exact id. NotFound otherwise."""
        with self._db.read() as tx:
            return Container(*rows.get(tx, self._namespace, id))

    def resolve(self, text: str) -> Container:
        """By id, by name, or by an unambiguous prefix of an id, in that order, as Docker does.

        NotFound ("no such container: …"), InvalidArgument when a prefix fits several.
        """
        with self._db.read() as tx:
            return Container(*rows.resolve(tx, self._namespace, text))

    def list(self, *filters: str) -> Sequence[Container]:
        """Newest first; those that match any of the filters.

        Fields: id, name, image, runtime.name, snapshotter, snapshotkey, sandbox_id, labels.KEY.
        """
        with self._db.read() as tx:
            found = [Container(*row) for row in rows.listed(tx, self._namespace)]
        if not filters:
            return found
        from ..metadata import filters as language

        match = language.compile(*filters)
        return [container for container in found if match(_adaptor(container, language))]

    def create(self, container: Container) -> Container:
        """Add it; times are the store's. The name is kept as the label `orlop.dev/name` too, or taken from it.

        AlreadyExists when the id or the name is taken (the message tells which container has it), InvalidArgument for
        an id that is no identifier or labels that are too long.
        """
        identifiers.check(container.id, "container id")
        name = container.name or container.labels.get(NAME_LABEL, "")
        with self._db.write() as tx:
            made = container.replace(
                name=name, labels=_named(container.labels, name), created_ns=tx.now_ns, updated_ns=tx.now_ns
            )
            rows.insert(tx, self._namespace, made.as_dict())
            runtime = {"name": made.runtime, "options": made.runtime_options}
            payload = {"id": made.id, "image": made.image, "runtime": runtime}
            publish(tx, self._root, self._namespace, "/containers/create", payload)
        return made

    def update(self, container: Container, fields: Sequence[str] = ()) -> Container:
        """Change all that can be changed, or only the named fields ("labels.KEY" and "extensions.KEY" among them).

        NotFound when there is none; InvalidArgument for a field that cannot change (id, runtime, times);
        AlreadyExists when another container has the new name.
        """
        with self._db.write() as tx:
            have = Container(*rows.get(tx, self._namespace, container.id))
            changes = _all_changes(have, container) if not fields else _changes(have, container, fields)
            if "name" in changes or "labels" in changes:
                name = changes.get("name", have.name)
                changes["labels"] = _named(changes.get("labels", have.labels), name)
            made = have.replace(**changes, updated_ns=tx.now_ns)
            rows.replace(tx, self._namespace, made.as_dict())
            payload = {
                "id": made.id, "image": made.image, "labels": made.labels, "snapshot_key": made.snapshot_key
            }  # fmt: skip
            publish(tx, self._root, self._namespace, "/containers/update", payload)
        return made

    def delete(self, id: str) -> None:
        """NotFound when there is none."""
        with self._db.write() as tx:
            rows.delete(tx, self._namespace, id)
            publish(tx, self._root, self._namespace, "/containers/delete", {"id": id})


def _named(labels: dict[str, str], name: str) -> dict[str, str]:
    """The labels without empty ones and with the name among them."""
    changed = {key: value for key, value in labels.items() if value and key != NAME_LABEL}
    if name:
        changed[NAME_LABEL] = name
    return changed


def _all_changes(have: Container, container: Container) -> dict[str, Any]:
    if (container.runtime, container.runtime_options) != (have.runtime, have.runtime_options):
        raise errors.InvalidArgument(f"container {have.id}: the runtime of a container cannot change")
    return {field: getattr(container, field) for field in _CHANGEABLE}


def _changes(have: Container, container: Container, fields: Sequence[str]) -> dict[str, Any]:
    changes: dict[str, Any] = {}
    of_labels = [field for field in fields if field == "labels" or field.startswith("labels.")]
    if of_labels:
        changes["labels"] = _labels.changed(have.labels, container.labels, of_labels)
    for field in fields:
        if field in of_labels:
            continue
        room, dot, key = field.partition(".")
        if room == "extensions" and dot:
            extensions = changes.setdefault("extensions", dict(have.extensions))
            if key in container.extensions:
                extensions[key] = container.extensions[key]
            else:
                extensions.pop(key, None)
        elif field in _CHANGEABLE:
            changes[field] = getattr(container, field)
        else:
            raise errors.InvalidArgument(f"container {have.id}: field {field!r} cannot be updated")
    return changes


def _adaptor(container: Container, language: Any) -> _filters.Adaptor:
    values = {
        "id": container.id,
        "name": container.name,
        "image": container.image,
        "runtime.name": container.runtime,
        "snapshotter": container.snapshotter,
        "snapshotkey": container.snapshot_key,
        "sandbox_id": container.sandbox_id,
    }
    adaptor: _filters.Adaptor = language.fields(values, container.labels)
    return adaptor
