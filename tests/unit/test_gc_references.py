"""Garbage collection: what is kept by what, and that the rest goes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors, times
from orlop.base.cancel import Cancel
from orlop.base.oci.digest import Digest, of_bytes
from orlop.stores import gc
from orlop.stores.containers.api import Container
from orlop.stores.images.api import Image
from orlop.stores.leases.api import Resource
from orlop.stores.metadata import layers, snapshots
from orlop.stores.metadata.layers import LayerRow
from orlop.stores.metadata.references import Rows
from orlop.stores.reachability import Graph
from tests.support.stores import Root, put, target

PAST, FUTURE = times.rfc3339(time.time_ns() - 10**12), times.rfc3339(time.time_ns() + 10**15)
LAYER = of_bytes(b"layer")
GC = "containerd.io/gc."


class Store(Root):
    """A root that collects, and remembers what snapshot and layer files it was told to remove."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.removed: list[object] = []

    def collect(self, **options: object) -> gc.Collected:
        return gc.collect(
            self.db,
            self.path,
            remove_snapshot_files=lambda snapshotter, number: self.removed.append((snapshotter, number)),
            remove_layer_files=self.removed.append,
            **options,  # type: ignore[arg-type]
        )

    def has(self) -> set[str]:
        return {info.digest for info in self.content().walk()}

    def snapshot(
        self,
        key: str,
        parent: int = 0,
        diff_id: str = "",
        labels: dict[str, str] | None = None,
        kind: str = "committed",
    ) -> int:
        with self.db.write() as tx:
            return snapshots.insert(tx, "overlay", "default", key, kind, parent, diff_id, labels, size=100)

    def layer(self, diff_id: str = LAYER) -> None:
        with self.db.write() as tx:
            layers.insert(tx, LayerRow(diff_id, "tree", "layers/x", 1000, 1, 1, 1))

    def keys(self) -> list[str]:
        with self.db.read() as tx:
            return [row.key for row in snapshots.walk(tx, "overlay", "default")]

    def layers(self) -> list[str]:
        with self.db.read() as tx:
            return [row.diff_id for row in layers.listed(tx)]


@pytest.fixture
def root(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "root"))


def test_what_nothing_refers_to_goes_with_its_file(root: Store) -> None:
    digest = put(root.content(), b"1")
    result = root.collect()
    assert (result.size, result.items, result.failures) == (1, (f"content {digest}",), ())
    assert result.counts == {"content": 1, "blobs": 1}
    assert (root.has(), root.files(), root.locks()) == (set(), [], [])
    assert root.collect().garbage == ()


def test_an_image_keeps_its_target_and_what_labels_name(root: Store) -> None:
    config, first, second = put(root.content(), b"c"), put(root.content(), b"1"), put(root.content(), b"2")
    labels = {f"{GC}ref.content.config": config, f"{GC}ref.content.l.0": first, f"{GC}ref.content/x": second}
    manifest = put(root.content(), b"m", labels)
    stray = put(root.content(), b"s", {f"{GC}ref.contents": config})
    root.images().put("x", target(manifest))
    root.collect()
    assert root.has() == {config, first, second, manifest}
    assert stray not in root.files()
    root.images().delete("x")
    root.collect()
    assert root.has() == set()


def test_references_do_not_cross_namespaces_but_files_are_shared(root: Store) -> None:
    digest = put(root.content(), b"1")
    put(root.content("other"), b"1")
    root.images("other").put("x", target(digest))
    result = root.collect()
    assert (root.has(), result.size) == (set(), 0)
    assert root.content("other").read(digest) == b"1"


def test_every_kind_of_thing_may_carry_references(root: Store) -> None:
    one, two, three = put(root.content(), b"1"), put(root.content(), b"2"), put(root.content(), b"3")
    root.snapshot("s", labels={f"{GC}ref.content": three})
    root.images().create(Image("x", target(of_bytes(b"none")), labels={f"{GC}ref.content": one}))
    root.containers().create(
        Container("c", labels={f"{GC}ref.content.y": two, f"{GC}ref.snapshot.overlay/z": "s", f"{GC}ref.image": "old"})
    )
    four = put(root.content(), b"4")
    root.images().create(Image("old", target(four), labels={f"{GC}expire": PAST}))
    root.collect()
    assert root.has() == {one, two, three, four}
    assert root.keys() == ["s"]


def test_a_container_keeps_its_snapshot_with_parents_and_layers(root: Store) -> None:
    root.layer()
    base = root.snapshot("base", diff_id=LAYER)
    top = root.snapshot("top", base, kind="active")
    stray = root.snapshot("stray", base)
    root.containers().create(Container("c", snapshotter="overlay", snapshot_key="top"))
    root.collect()
    assert (root.keys(), root.layers()) == (["base", "top"], [LAYER])
    assert root.removed == [("overlay", stray)]
    root.removed.clear()
    root.containers().delete("c")
    result = root.collect()
    assert (root.keys(), root.layers()) == ([], [])
    assert root.removed == [("overlay", top), ("overlay", base), LAYER]
    assert result.size == 1200


def test_a_config_keeps_the_chain_its_label_names(root: Store) -> None:
    base = root.snapshot("base")
    root.snapshot("chain", base)
    config = put(root.content(), b"c", {f"{GC}ref.snapshot.overlay": "chain"})
    root.images().put("x", target(config))
    root.collect()
    assert root.keys() == ["base", "chain"]


def test_back_references_keep_the_labelled_thing_while_the_named_one_lives(root: Store) -> None:
    parent = put(root.content(), b"p")
    root.images().put("x", target(parent))
    root.containers().create(Container("c"))
    root.snapshot("base")
    root.containers().create(Container("d", snapshotter="overlay", snapshot_key="base"))
    kept = {
        put(root.content(), b"1", {f"{GC}bref.content": parent}),
        put(root.content(), b"2", {f"{GC}bref.image.why": "x"}),
        put(root.content(), b"3", {f"{GC}bref.container/why": "c"}),
        put(root.content(), b"4", {f"{GC}bref.snapshot.overlay/why": "base"}),
    }
    put(root.content(), b"5", {f"{GC}bref.image": "gone"})
    put(root.content(), b"6", {f"{GC}bref.images": "x"})
    root.collect()
    assert root.has() == {parent} | kept
    root.images().delete("x")
    root.containers().delete("c")
    root.containers().delete("d")
    root.collect()
    assert root.has() == set()


def test_a_root_label_keeps_content_and_snapshots(root: Store) -> None:
    child = put(root.content(), b"1")
    kept = put(root.content(), b"2", {f"{GC}root": "2024-01-01T00:00:00Z", f"{GC}ref.content": child})
    root.snapshot("s", labels={f"{GC}root": "yes"})
    root.collect()
    assert root.has() == {child, kept}
    assert root.keys() == ["s"]


def test_a_lease_keeps_what_it_holds_and_what_that_refers_to(root: Store) -> None:
    root.leases().create("lease")
    child = put(root.content(), b"1")
    held = put(root.content(lease="lease"), b"2", {f"{GC}ref.content": child})
    root.layer()
    root.snapshot("base")
    for resource in (Resource("layers", LAYER), Resource("snapshots/overlay", "base")):
        root.leases().add_resource("lease", resource)
    root.collect()
    assert (root.has(), root.layers(), root.keys()) == ({child, held}, [LAYER], ["base"])
    root.leases().delete("lease")
    root.collect()
    assert (root.has(), root.layers(), root.keys()) == (set(), [], [])


def test_a_flat_lease_keeps_what_it_holds_alone(root: Store) -> None:
    root.leases().create("lease", {f"{GC}flat": "yes"})
    child = put(root.content(), b"1")
    held = put(root.content(lease="lease"), b"2", {f"{GC}ref.content": child})
    root.layer()
    base = root.snapshot("base", diff_id=LAYER)
    root.snapshot("top", base, labels={f"{GC}ref.content": child})
    root.leases().add_resource("lease", Resource("snapshots/overlay", "top"))
    manifest = put(root.content(), b"m", {f"{GC}ref.content": child})
    root.images().create(Image("x", target(manifest), labels={f"{GC}expire": PAST}))
    root.leases().add_resource("lease", Resource("images", "x"))
    root.collect()
    assert root.has() == {held, manifest}
    assert (root.keys(), root.layers()) == (["base", "top"], [LAYER])
    # Reached by another way, too, its labels count.
    child = put(root.content(), b"1")
    root.images().put("y", target(held))
    root.collect()
    assert root.has() == {held, manifest, child}


def test_leases_and_images_expire_and_a_bad_time_never_comes(root: Store) -> None:
    leases = root.leases()
    for name, labels in (("old", PAST), ("new", FUTURE), ("odd", "")):
        leases.create(name, {f"{GC}expire": labels})
    with root.db.write() as tx:
        tx.execute("UPDATE leases SET labels = ? WHERE id = 'odd'", (f'{{"{GC}expire":"nonsense"}}',))
    blobs: dict[str, Digest] = {}
    for name in ("old", "new", "odd"):
        blobs[name] = put(root.content(lease=name), name.encode())
    image = put(root.content(), b"image")
    root.images().create(Image("x", target(image), labels={f"{GC}expire": PAST}))
    lasting = put(root.content(), b"lasting")
    root.images().create(Image("y", target(lasting), labels={f"{GC}expire": FUTURE}))
    until = put(root.content(), b"until", {f"{GC}expire": FUTURE})
    put(root.content(), b"over", {f"{GC}expire": PAST})
    result = root.collect()
    assert root.has() == {blobs["new"], blobs["odd"], lasting, until}
    assert {lease.id for lease in leases.list()} == {"new", "odd"}
    assert [one.name for one in root.images().list()] == ["y"]
    assert {"lease old", "image x"} <= set(result.items)
    topics = [event.topic for event in root.events().read(0, 100, "topic~=delete")]
    assert topics.count("/images/delete") == 1
    assert topics.count("/content/delete") == 3


def test_cycles_are_marked_and_collected(root: Store) -> None:
    one, two = of_bytes(b"1"), of_bytes(b"2")
    put(root.content(), b"1", {f"{GC}ref.content": two})
    put(root.content(), b"2", {f"{GC}ref.content": one})
    root.images().put("x", target(one))
    root.collect()
    assert root.has() == {one, two}
    root.images().delete("x")
    root.collect()
    assert root.has() == set()


def test_a_dry_run_tells_all_and_removes_nothing(root: Store) -> None:
    digest = put(root.content(), b"1")
    base = root.snapshot("base")
    root.snapshot("top", base)
    root.content().writer("ref").close()
    orphan = of_bytes(b"orphan")
    Path(f"{root.path}/content/blobs/sha256/{orphan.encoded}").write_bytes(b"orphan")
    told = root.collect(dry_run=True, ingest_age_s=0)
    assert (root.has(), root.files()) == ({digest}, sorted([digest, orphan]))
    assert (len(root.ingests()), root.keys(), root.removed) == (1, ["base", "top"], [])
    done = root.collect(ingest_age_s=0)
    assert set(told.garbage) == set(done.garbage)
    assert (root.files(), root.ingests(), root.keys()) == ([], [], [])


def test_files_that_no_row_names_are_collected_but_strangers_are_left(root: Store) -> None:
    put(root.content(), b"1")
    directory = f"{root.path}/content/blobs/sha256"
    Path(directory, "ab" * 32).write_bytes(b"orphan")
    Path(directory, "README").write_bytes(b"mine")
    result = root.collect()
    assert result.size == 7
    assert os.listdir(directory) == ["README"]


def test_an_ingest_is_kept_while_it_is_new_or_held_or_leased(root: Store) -> None:
    root.leases().create("lease")
    with root.content(lease="lease").writer("leased") as writer:
        writer.write(b"1")
    root.content().writer("left").close()
    with root.content().writer("held"):
        assert root.collect().garbage == ()
        assert [one.type for one in root.collect(ingest_age_s=0).garbage] == ["ingests"]
        assert [status.ref for status in root.content().list_statuses()] == ["held", "leased"]
    root.leases().delete("lease")
    root.collect(ingest_age_s=0)
    assert (root.ingests(), root.locks()) == ([], [])


def test_locks_left_by_the_dead_are_removed_and_held_ones_are_not(root: Store) -> None:
    with root.content().writer("held"):
        Path(f"{root.path}/locks/blob-sha256-{'0' * 64}").touch()
        Path(f"{root.path}/locks/mine").touch()
        root.collect()
        assert [name.partition("-")[0] for name in root.locks()] == ["ingest", "mine"]


def test_a_blob_that_is_being_brought_back_is_left_alone(root: Store) -> None:
    digest = put(root.content(), b"1")
    with root.content("other").writer("ref", 1, digest) as writer:
        assert writer.status().offset == 1
        result = root.collect()
        assert (root.has(), root.files(), result.size) == (set(), [digest], 0)
        writer.commit()
    assert root.content("other").read(digest) == b"1"
    root.check()


def test_a_failure_to_remove_files_does_not_stop_the_rest(root: Store) -> None:
    root.snapshot("busy")
    digest = put(root.content(), b"1")
    root.layer()

    def busy(snapshotter: str, number: int) -> None:
        raise errors.FailedPrecondition("a file system is mounted there")

    result = gc.collect(
        root.db, root.path, remove_snapshot_files=busy, remove_layer_files=lambda diff_id: root.removed.append(diff_id)
    )
    assert result.failures == ("snapshot overlay busy: a file system is mounted there",)
    assert (root.removed, root.files()) == ([LAYER], [])
    assert digest not in root.has()


def test_a_cancelled_collection_leaves_a_state_that_the_next_one_finishes(root: Store) -> None:
    put(root.content(), b"1")
    put(root.content(), b"2")
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(errors.Cancelled):
        root.collect(cancel=cancel)
    root.check()
    root.collect()
    assert (root.files(), root.locks()) == ([], [])


def test_why_tells_the_way_from_a_root(root: Store) -> None:
    root.layer()
    base = root.snapshot("base", diff_id=LAYER)
    root.snapshot("chain", base)
    config = put(root.content(), b"c", {f"{GC}ref.snapshot.overlay": "chain"})
    manifest = put(root.content(), b"m", {f"{GC}ref.content.config": config})
    root.images().put("docker.io/library/x:1", target(manifest))
    assert list(gc.why(root.db, "default", LAYER)) == [
        "image docker.io/library/x:1 (a root)",
        f"  content {manifest} (its target)",
        f"    content {config} (label {GC}ref.content.config)",
        f"      snapshot overlay chain (label {GC}ref.snapshot.overlay)",
        "        snapshot overlay base (its parent)",
        f"          layer {LAYER} (its layer)",
    ]
    assert list(gc.why(root.db, "default", config.short))[-1].lstrip().startswith(f"content {config}")
    stray = put(root.content(), b"stray")
    with pytest.raises(errors.NotFound, match="nothing keeps"):
        gc.why(root.db, "default", stray)
    for what in ("none", "c", ""):
        with pytest.raises(errors.NotFound, match="nothing is called"):
            gc.why(root.db, "default", what)
    with pytest.raises(errors.NotFound):
        gc.why(root.db, "other", manifest)
    with pytest.raises(errors.InvalidArgument, match="several"):
        gc.why(root.db, "default", "sha256")


NAMES = st.integers(0, 7)


@settings(max_examples=150, deadline=None)
@given(
    edges=st.sets(st.tuples(NAMES, NAMES), max_size=20),
    back=st.sets(st.tuples(NAMES, NAMES), max_size=6),
    roots=st.sets(NAMES, max_size=3),
)
def test_kept_is_exactly_what_can_be_reached(
    edges: set[tuple[int, int]], back: set[tuple[int, int]], roots: set[int]
) -> None:
    labels: dict[int, dict[str, str]] = {n: {} for n in range(8)}
    for number, (source, to) in enumerate(sorted(edges)):
        labels[source][f"{GC}ref.content.{number}"] = str(to)
    for number, (child, parent) in enumerate(sorted(back)):
        labels[child][f"{GC}bref.content.{number}"] = str(parent)
    rows = Rows(
        images={("n", f"image{n}"): (str(n), {}) for n in roots},
        containers={},
        content={("n", str(n)): (labels[n],) for n in range(8)},
        leases={},
        resources=[],
        snapshots={},
        layers={},
        blobs={},
    )
    marks = Graph(rows, 0).marks()
    reached = set(roots)
    while True:
        more = {to for source, to in edges if source in reached} | {
            child for child, parent in back if parent in reached
        }
        if more <= reached:
            break
        reached |= more
    assert {int(node[2]) for node in marks if node[0] == "content"} == reached
    for node in marks:
        steps = 0
        at = node
        while (holder := marks[at][0]) is not None:
            at, steps = holder, steps + 1
            assert steps <= 20
        assert at[0] == "images"
