"""Pullers, removers and collectors at once, in several processes: nobody loses what is in use, and nothing is left."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from pathlib import Path

from orlop.base import errors
from orlop.base.oci.digest import Digest, of_bytes
from orlop.stores import gc
from orlop.stores.leases.api import Resource
from orlop.stores.metadata import layers, snapshots
from orlop.stores.metadata.layers import LayerRow
from tests.support import faults
from tests.support.stores import Root, put, target

ROUNDS = 50
LAYERS = [f"layer {number} ".encode() * (500 * number + 10) for number in range(6)]


def collect(root: Root) -> gc.Collected:
    done = gc.collect(
        root.db, root.path, remove_snapshot_files=lambda s, n: None, remove_layer_files=lambda d: None, ingest_age_s=0
    )
    if done.failures:
        raise AssertionError(done.failures)
    return done


def puller(path: str, seed: int) -> None:
    """Pull images of shared layers, under a lease, into one of two namespaces; each is whole while it has a name."""
    chance = random.Random(seed)
    root = Root(path)
    for number in range(ROUNDS):
        namespace = chance.choice(["default", "other"])
        mine = chance.sample(LAYERS, 3)
        lease = root.leases(namespace).create(expire_s=3600)
        store = root.content(namespace, lease.id)
        digests = [_pull(store, data) for data in mine]
        labels = {f"containerd.io/gc.ref.content.l.{n}": digest for n, digest in enumerate(digests)}
        key = f"chain-{seed}-{number}"
        root.leases(namespace).add_resource(lease.id, Resource("snapshots/overlay", key))
        root.leases(namespace).add_resource(lease.id, Resource("layers", digests[0]))
        with root.db.write() as tx:
            try:
                layers.insert(tx, LayerRow(digests[0], "tree", "x", 1, 1, 1, 1))
            except errors.AlreadyExists:
                pass
        with root.db.write() as tx:
            snapshots.insert(tx, "overlay", namespace, key, "committed", 0, digests[0])
        manifest = put(
            store, f"manifest {seed} {number}".encode(), {**labels, "containerd.io/gc.ref.snapshot.overlay": key}
        )
        name = f"image-{seed}-{number}"
        root.images(namespace).put(name, target(manifest))
        root.leases(namespace).delete(lease.id)
        for data, digest in zip(mine, digests):
            assert root.content(namespace).read(digest) == data
            assert root.content(namespace).verify(digest).size == len(data)
        with root.db.read() as tx:
            assert snapshots.get(tx, "overlay", namespace, key).diff_id == digests[0]
        root.images(namespace).put(f"done-{name}", target(manifest))
        root.images(namespace).delete(name)


def _pull(store, data: bytes) -> Digest:  # type: ignore[no-untyped-def]
    """As a pull does: by a ref all processes share, resumed, and fine when another process was quicker."""
    digest = of_bytes(data)
    try:
        writer = store.writer(f"layer-{digest}", len(data), digest)
    except errors.AlreadyExists:
        return digest
    with writer:
        while (offset := writer.status().offset) < len(data):
            writer.write(data[offset : offset + 3000])
        try:
            writer.commit()
        except errors.AlreadyExists:
            pass
    return digest


def remover(path: str, seed: int) -> None:
    """Remove images whose pullers are done with them."""
    chance = random.Random(seed)
    root = Root(path)
    for _ in range(ROUNDS * 2):
        namespace = chance.choice(["default", "other"])
        for image in root.images(namespace).list("name~=^done-"):
            if chance.random() < 0.5:
                try:
                    root.images(namespace).delete(image.name)
                except errors.NotFound:
                    pass


def collector(path: str, seed: int) -> None:
    root = Root(path)
    for _ in range(ROUNDS * 2):
        collect(root)


def test_pullers_removers_and_collectors_work_together(tmp_path: Path) -> None:
    root = Root(str(tmp_path / "root"))
    root.db.check()
    root.db.close()
    roles: list[Callable[[str, int], None]] = [puller, puller, puller, remover, collector, collector]
    logs = [str(tmp_path / f"log-{number}") for number in range(len(roles))]
    pids = [
        faults.start(lambda role=role, number=number: role(root.path, number), logs[number])
        for number, role in enumerate(roles)
    ]
    results = [os.waitpid(pid, 0)[1] for pid in pids]
    said = [Path(log).read_text() for log in logs if os.path.exists(log)]
    assert (results, said) == ([0] * len(roles), [])

    root.check()
    for namespace in ("default", "other"):
        for image in root.images(namespace).list():
            manifest = root.content(namespace).info(image.target.digest)
            for key, digest in manifest.labels.items():
                if key.startswith("containerd.io/gc.ref.content."):
                    assert root.content(namespace).verify(Digest(digest))
            root.images(namespace).delete(image.name)
    collect(root)
    assert (root.files(), root.ingests(), root.locks()) == ([], [], [])
    assert collect(root).garbage == ()
