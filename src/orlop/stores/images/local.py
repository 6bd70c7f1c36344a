"""The image store on this machine: rows of the metadata database. Touches no file."""

from __future__ import annotations

from ..events.publish import publish
from ..metadata import images as rows
from ..metadata import labels as _labels
from .api import Image

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ...base.oci.descriptor import Descriptor
    from ..metadata import filters as _filters
    from ..metadata.database import Database, Transaction


class LocalImageStore:
    """The images of one namespace. Safe to use from any thread. Publishes /images/create, /update and /delete."""

    def __init__(self, db: Database, root: str, namespace: str) -> None:
        self._db = db
        self._root = root
        self._namespace = namespace

    def get(self, name: str) -> Image:
        """NotFound when there is none."""
        with self._db.read() as tx:
            return Image(*rows.get(tx, self._namespace, name))

    def list(self, *filters: str) -> Sequence[Image]:
        """In order of name; those that match any of the filters.

        Fields: name, target.digest, target.mediatype, labels.KEY, annotations.KEY (of the target).
        """
        with self._db.read() as tx:
            found = [Image(*row) for row in rows.listed(tx, self._namespace)]
        if not filters:
            return found
        from ..metadata import filters as language

        match = language.compile(*filters)
        return [image for image in found if match(_adaptor(image))]

    def create(self, image: Image) -> Image:
        """AlreadyExists when the name is taken. Times are the store's."""
        with self._db.write() as tx:
            return self._insert(tx, image.name, image.target, image.labels)

    def update(self, image: Image, fields: Sequence[str] = ()) -> Image:
        """Change target and labels, or only the named fields ("target", "labels", "labels.KEY").

        NotFound when there is none, InvalidArgument for another field.
        """
        with self._db.write() as tx:
            have = Image(*rows.get(tx, self._namespace, image.name))
            target = image.target if not fields or "target" in fields else have.target
            of_labels = [field for field in fields if field != "target"]
            labels: Mapping[str, str] = have.labels
            if not fields or of_labels:
                labels = _labels.changed(have.labels, image.labels, of_labels)
            return self._replace(tx, image.name, target, labels)

    def put(self, name: str, target: Descriptor, labels: Mapping[str, str] | None = None) -> Image:
        """Create or replace in one transaction (labels None: keep those there are)."""
        with self._db.write() as tx:
            have = rows.find(tx, self._namespace, name)
            if have is None:
                return self._insert(tx, name, target, labels or {})
            return self._replace(tx, name, target, have[4] if labels is None else labels)

    def delete(self, name: str) -> None:
        """NotFound when there is none. What it alone kept goes at the next collection."""
        with self._db.write() as tx:
            rows.delete(tx, self._namespace, name)
            publish(tx, self._root, self._namespace, "/images/delete", {"name": name})

    def _insert(self, tx: Transaction, name: str, target: Descriptor, labels: Mapping[str, str]) -> Image:
        made = Image(*rows.insert(tx, self._namespace, name, target, labels))
        publish(tx, self._root, self._namespace, "/images/create", {"name": name, "labels": made.labels})
        return made

    def _replace(self, tx: Transaction, name: str, target: Descriptor, labels: Mapping[str, str]) -> Image:
        made = Image(*rows.replace(tx, self._namespace, name, target, labels))
        publish(tx, self._root, self._namespace, "/images/update", {"name": name, "labels": made.labels})
        return made


def _adaptor(image: Image) -> _filters.Adaptor:
    target = image.target

    def adaptor(path: Sequence[str]) -> tuple[str, bool]:
        value: str | None = None
        if path[0] == "labels":
            value = image.labels.get(".".join(path[1:]))
        elif path[0] == "annotations":
            value = target.annotations.get(".".join(path[1:]))
        elif path == ["name"]:
            value = image.name
        elif path == ["target", "digest"]:
            value = target.digest
        elif path == ["target", "mediatype"]:
            value = target.media_type
        return ("", False) if value is None else (value, True)

    return adaptor
