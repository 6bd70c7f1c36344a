"""kill -9 at every fault point of the stores: the store opens, nothing is half, nothing committed is lost, a second try
succeeds, and a collection leaves no garbage.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from orlop.base import errors, fsio
from orlop.base.oci.digest import Digest, of_bytes
from orlop.stores import gc
from orlop.stores.containers.api import Container
from orlop.stores.content.local import LocalContentStore
from orlop.stores.metadata import layers, snapshots
from orlop.stores.metadata.layers import LayerRow
from tests.support import faults
from tests.support.stores import Root, put, target

KEPT = b"committed long ago" * 1000
NEW = bytes(range(256)) * 400
NEW_DIGEST, KEPT_DIGEST = of_bytes(NEW), of_bytes(KEPT)
CHUNK = 40_000


def prepared(path: str) -> Root:
    """A root that keeps one blob, by an image."""
    root = Root(path)
    root.images().put("kept", target(put(root.content(), KEPT)))
    root.db.close()
    return root


def collect(root: Root) -> gc.Collected:
    def remove_snapshot_files(snapshotter: str, number: int) -> None:
        fsio.remove_tree(f"{root.path}/snapshots/{number}")

    def remove_layer_files(diff_id: str) -> None:
        fsio.remove_tree(f"{root.path}/layers/{Digest(diff_id).encoded}")

    return gc.collect(
        root.db,
        root.path,
        remove_snapshot_files=remove_snapshot_files,
        remove_layer_files=remove_layer_files,
        ingest_age_s=0,
    )


def ingest(store: LocalContentStore, ref: str = "ref") -> None:
    """Bring NEW into the store, going on where an earlier try stopped."""
    try:
        writer = store.writer(ref, len(NEW), NEW_DIGEST)
    except errors.AlreadyExists:
        return
    with writer:
        while (offset := writer.status().offset) < len(NEW):
            writer.write(NEW[offset : offset + CHUNK])
        writer.commit(labels={"a": "b"})


def each_point(tmp_path: Path, work: Callable[[Root], object], setup: Callable[[Root], object]) -> Iterator[Root]:
    """For every fault point `work` passes: a fresh root in which a child was killed exactly there."""

    def fresh(name: str) -> Root:
        root = prepared(str(tmp_path / name))
        setup(root)
        root.db.close()
        return root

    first = fresh("whole")
    names = faults.points(lambda: work(first))
    assert len(names) >= 3, names
    for index, name in enumerate(names):
        root = fresh(f"{index}-{name}")
        faults.killed_at(lambda root=root: work(root), index)
        root.check()
        assert root.content().read(KEPT_DIGEST) == KEPT
        yield root
        root.check()
        assert root.content().read(KEPT_DIGEST) == KEPT
        assert root.images().get("kept").target.digest == KEPT_DIGEST
        assert root.locks() == []
        root.db.close()
        fsio.remove_tree(root.path)


def nothing(root: Root) -> None:
    """No more is set up."""


def test_an_ingest_killed_anywhere_succeeds_at_the_second_try(tmp_path: Path) -> None:
    for root in each_point(tmp_path, lambda root: ingest(root.content()), nothing):
        try:
            assert root.content().read(NEW_DIGEST) == NEW
        except errors.NotFound:
            pass
        ingest(root.content())
        assert root.content().read(NEW_DIGEST) == NEW
        assert root.content().info(NEW_DIGEST).labels == {"a": "b"}
        root.images().put("new", target(NEW_DIGEST))
        collect(root)
        assert root.files() == sorted([KEPT_DIGEST, NEW_DIGEST])
        assert root.ingests() == []


def test_an_ingest_killed_anywhere_and_given_up_is_collected(tmp_path: Path) -> None:
    for root in each_point(tmp_path, lambda root: ingest(root.content()), nothing):
        collect(root)
        assert root.files() == [KEPT_DIGEST]
        assert root.ingests() == []
        ingest(root.content())
        assert root.content().read(NEW_DIGEST) == NEW


def test_an_adoption_killed_anywhere_succeeds_at_the_second_try(tmp_path: Path) -> None:
    for root in each_point(tmp_path, lambda root: ingest(root.content("other")), lambda root: put(root.content(), NEW)):
        assert root.content().read(NEW_DIGEST) == NEW
        ingest(root.content("other"))
        assert root.content("other").read(NEW_DIGEST) == NEW
        collect(root)
        assert (root.files(), root.ingests()) == ([KEPT_DIGEST], [])


def test_a_leased_ingest_killed_after_its_commit_is_held_by_the_lease(tmp_path: Path) -> None:
    for root in each_point(
        tmp_path, lambda root: ingest(root.content(lease="lease")), lambda root: root.leases().create("lease")
    ):
        there = [info.digest for info in root.content().walk()]
        held = [resource.id for resource in root.leases().list_resources("lease") if resource.type == "content"]
        assert (NEW_DIGEST in there) == (NEW_DIGEST in held)
        collect(root)
        assert [info.digest for info in root.content().walk()] == there


def test_a_deletion_killed_anywhere_is_whole_or_not_at_all(tmp_path: Path) -> None:
    for root in each_point(
        tmp_path, lambda root: root.content().delete(NEW_DIGEST), lambda root: put(root.content(), NEW)
    ):
        try:
            root.content().delete(NEW_DIGEST)
        except errors.NotFound:
            pass
        collect(root)
        assert root.files() == [KEPT_DIGEST]
        ingest(root.content())
        assert root.content().read(NEW_DIGEST) == NEW


def test_a_change_of_records_killed_anywhere_is_whole_or_not_at_all(tmp_path: Path) -> None:
    def work(root: Root) -> None:
        root.images().put("x", target(KEPT_DIGEST), {"a": "b"})
        root.containers().create(Container("c", "name"))
        root.images().delete("x")

    for root in each_point(tmp_path, work, nothing):
        events = [event.topic for event in root.events().read()]
        names = {image.name for image in root.images().list()}
        assert ("x" in names) == (events.count("/images/create") == 2 and "/images/delete" not in events)
        assert (len(root.containers().list()) == 1) == ("/containers/create" in events)
        collect(root)


def littered(root: Root) -> None:
    """Garbage of every kind, beside a chain of snapshots that a container keeps."""
    put(root.content(), NEW, {"containerd.io/gc.ref.content": KEPT_DIGEST})
    put(root.content("other"), NEW)
    with root.content().writer("left") as writer:
        writer.write(NEW[:100])
    root.leases().create("expired", {"containerd.io/gc.expire": "2020-01-01T00:00:00Z"})
    Path(f"{root.path}/content/blobs/sha256/{'0' * 63}1").write_bytes(b"")
    os.unlink(f"{root.path}/content/blobs/sha256/{'0' * 63}1")
    with root.db.write() as tx:
        for name in ("kept", "gone"):
            diff_id = of_bytes(name.encode())
            layers.insert(tx, LayerRow(diff_id, "tree", f"layers/{diff_id.encoded}", 1, 1, 1, 1))
            base = snapshots.insert(tx, "overlay", "default", f"{name}-base", "committed", 0, diff_id)
            top = snapshots.insert(tx, "overlay", "default", name, "active", base)
            for directory in (f"snapshots/{base}", f"snapshots/{top}", f"layers/{diff_id.encoded}"):
                os.makedirs(f"{root.path}/{directory}")
    root.containers().create(Container("c", snapshotter="overlay", snapshot_key="kept"))


def test_a_collection_killed_anywhere_is_finished_by_the_next(tmp_path: Path) -> None:
    for root in each_point(tmp_path, collect, littered):
        collect(root)
        assert (root.files(), root.ingests(), root.leases().list()) == ([KEPT_DIGEST], [], [])
        with root.db.read() as tx:
            assert [row.key for row in snapshots.walk(tx, "overlay", "default")] == ["kept-base", "kept"]
            kept = layers.listed(tx)
        assert [row.diff_id for row in kept] == [of_bytes(b"kept")]
        assert os.path.isdir(f"{root.path}/{kept[0].path}")
        assert {"1", "2"} <= set(os.listdir(f"{root.path}/snapshots"))
        assert collect(root).garbage == ()


@pytest.mark.parametrize("seed", range(3))
def test_a_writer_killed_at_random_moments_always_gets_there(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    root = prepared(str(tmp_path / "root"))
    for number in range(12):
        pid = faults.start(lambda: _ingest_many(root.path, 20), str(tmp_path / "log"))
        time.sleep(chance.random() * 0.04)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        root.check()
        if number % 4 == 3:
            collect(root)
            assert root.content().read(KEPT_DIGEST) == KEPT
        root.db.close()
    _ingest_many(root.path, 20)
    assert len(list(root.content().walk())) == 21
    root.check()
    collect(root)
    assert (root.files(), root.ingests(), root.locks()) == ([KEPT_DIGEST], [], [])


def _ingest_many(path: str, count: int) -> None:
    store = Root(path).content()
    for number in range(count):
        data = f"blob {number} ".encode() * 3000
        try:
            writer = store.writer(f"ref-{number}", len(data), of_bytes(data))
        except errors.AlreadyExists:
            continue
        with writer:
            while (offset := writer.status().offset) < len(data):
                writer.write(data[offset : offset + 10_000])
            writer.commit()
