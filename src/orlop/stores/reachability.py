"""What is reachable from what, and from where: the marking half of garbage collection. Pure: rows in, marks out.

A node is (type, namespace, id); types are those of leases ("content", "snapshots/<snapshotter>", "images", "layers")
and "containers", "leases". Layers belong to no namespace. Roots are images, containers, leases and what carries
`gc.root`; an edge is a property (an image's target, a snapshot's parent and layer, …) or a label:

    gc.ref.content[.x], gc.ref.image[.x], gc.ref.snapshot.<s>[/x]      the labelled thing keeps the named one
    gc.bref.content|image|container[.x], gc.bref.snapshot.<s>[/x]      the named thing keeps the labelled one
    gc.root                 on content and snapshots: a root          gc.flat  on a lease: labels are not followed
    gc.expire               on leases and images: no root after it; on content and snapshots: a root until then

Source: containerd docs/garbage-collection.md and core/metadata/gc.go. Conditional references (2.3) are not known.
"""

from __future__ import annotations

from ..base import errors, times

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .metadata.references import Rows

    Node = tuple[str, str, str]
    Step = tuple[Node | None, str]
    """Who keeps a node (None: it is a root), and by what."""

_GC = "containerd.io/gc."
_ROOT, _EXPIRE, _FLAT = f"{_GC}root", f"{_GC}expire", f"{_GC}flat"
_PLURAL = {"content": "content", "image": "images", "container": "containers"}


class Graph:
    """The rows as nodes and edges, at one moment.

    now_ns: expiry is judged by it.
    """

    def __init__(self, rows: Rows, now_ns: int) -> None:
        self.rows = rows
        self._now_ns = now_ns
        self._snapshots: dict[Node, int] = {
            (f"snapshots/{v[0]}", v[1], v[2]): number for number, v in rows.snapshots.items()
        }
        self._back: dict[Node, list[tuple[Node, str]]] = {}
        for node in self.nodes():
            for key, value in self._labels(node).items():
                parent = _reference(key, value, node[1], "bref")
                if parent is not None:
                    self._back.setdefault(parent, []).append((node, f"its label {key}"))

    def nodes(self) -> Iterator[Node]:
        """All there are."""
        rows = self.rows
        yield from (("images", *key) for key in rows.images)
        yield from (("containers", *key) for key in rows.containers)
        yield from (("leases", *key) for key in rows.leases)
        yield from (("content", *key) for key in rows.content)
        yield from self._snapshots
        yield from (("layers", "", diff_id) for diff_id in rows.layers)

    def number(self, node: Node) -> int:
        """The number of a snapshot's row."""
        return self._snapshots[node]

    def has(self, node: Node) -> bool:
        """Whether there is such a thing."""
        kind, namespace, id = node
        if kind == "layers":
            return id in self.rows.layers
        if kind.startswith("snapshots/"):
            return node in self._snapshots
        table = getattr(self.rows, kind, None)
        return isinstance(table, dict) and (namespace, id) in table

    def marks(self) -> dict[Node, Step]:
        """Every node that is kept, with who keeps it: following the steps leads to a root."""
        kept: dict[Node, Step] = {}
        full: set[Node] = set()
        queue: list[tuple[Node, bool, Node | None, str]] = [
            (node, flat, holder, reason) for node, flat, holder, reason in self._roots()
        ]
        at = 0
        while at < len(queue):
            node, flat, holder, reason = queue[at]
            at += 1
            if node in full or (flat and node in kept) or not self.has(node):
                continue
            kept.setdefault(node, (holder, reason))
            if not flat:
                full.add(node)
            queue.extend((to, onward, node, why) for to, onward, why in self._edges(node, flat))
        return kept

    def leased_ingests(self) -> set[tuple[str, str]]:
        """(namespace, ref) of the ingests that living leases hold."""
        return {
            (namespace, id)
            for namespace, lease, kind, id in self.rows.resources
            if kind == "ingests" and not self._is_past(("leases", namespace, lease))
        }

    def _labels(self, node: Node) -> dict[str, str]:
        kind, namespace, id = node
        if kind.startswith("snapshots/"):
            return self.rows.snapshots[self._snapshots[node]][6]
        if kind == "layers":
            return {}
        labels: dict[str, str] = getattr(self.rows, kind)[namespace, id][-1]
        return labels

    def _expiry(self, node: Node) -> int | None:
        text = self._labels(node).get(_EXPIRE, "")
        if not text:
            return None
        try:
            return times.parse_time(text)
        except errors.InvalidArgument:  # as in containerd: not a time, so it says nothing
            return None

    def _is_past(self, node: Node) -> bool:
        expiry = self._expiry(node) if self.has(node) else None
        return expiry is not None and expiry < self._now_ns

    def _roots(self) -> Iterator[tuple[Node, bool, Node | None, str]]:
        for node in self.nodes():
            kind = node[0]
            if kind == "containers" or (kind in ("images", "leases") and not self._is_past(node)):
                yield node, False, None, "a root"
            elif kind == "content" or kind.startswith("snapshots/"):
                if self._labels(node).get(_ROOT):
                    yield node, False, None, "a root by its label gc.root"
                elif self._expiry(node) is not None and not self._is_past(node):
                    yield node, False, None, "a root until its label gc.expire"
        for namespace, lease, kind, id in self.rows.resources:
            holder: Node = ("leases", namespace, lease)
            if not self._is_past(holder):
                node = (kind, "" if kind == "layers" else namespace, id)
                yield node, bool(self._labels(holder).get(_FLAT)), holder, "leased"

    def _edges(self, node: Node, flat: bool) -> Iterator[tuple[Node, bool, str]]:
        kind, namespace, id = node
        rows = self.rows
        if kind == "images":
            yield ("content", namespace, rows.images[namespace, id][0]), flat, "its target"
        elif kind == "containers":
            snapshotter, key, _ = rows.containers[namespace, id]
            if snapshotter:
                yield (f"snapshots/{snapshotter}", namespace, key), False, "its snapshot"
        elif kind.startswith("snapshots/"):
            _, _, _, parent, diff_id, _, _ = rows.snapshots[self._snapshots[node]]
            if parent is not None:
                yield (kind, namespace, rows.snapshots[parent][2]), flat, "its parent"
            if diff_id is not None:
                yield ("layers", "", diff_id), flat, "its layer"
        if flat:
            return
        for key, value in self._labels(node).items():
            to = _reference(key, value, namespace, "ref")
            if to is not None:
                yield to, False, f"label {key}"
        for child, why in self._back.get(node, ()):
            yield child, False, why


def _reference(key: str, value: str, namespace: str, direction: str) -> Node | None:
    """The node that a label "containerd.io/gc.<direction>.…" names, or None when it is no such label."""
    prefix = f"{_GC}{direction}."
    if not key.startswith(prefix) or not value:
        return None
    rest = key[len(prefix) :]
    if rest.startswith("snapshot."):
        snapshotter = rest[len("snapshot.") :].partition("/")[0]
        return f"snapshots/{snapshotter}", namespace, value
    for name, kind in _PLURAL.items():
        if rest == name or rest.startswith((f"{name}.", f"{name}/")):
            # A container is kept by itself: nothing refers to it, it only may be referred back to.
            return None if name == "container" and direction == "ref" else (kind, namespace, value)
    return None
