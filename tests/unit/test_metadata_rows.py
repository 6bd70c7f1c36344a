"""Labels, identifiers, namespaces, and the rows of snapshots and layers."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.stores.metadata import identifiers, labels, layers, namespaces, snapshots
from orlop.stores.metadata.database import Database
from orlop.stores.metadata.layers import LayerRow

TEXT = st.text(max_size=12)


@pytest.fixture
def db(tmp_path: Path) -> Database:
    return Database(str(tmp_path / "metadata.db"))


def layer(name: str) -> LayerRow:
    return LayerRow(f"sha256:{name}", "tree", f"layers/{name}", 10, 2, 20, 30, ("a", "a/b"), (("l", "t"),))


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(TEXT.filter(bool), TEXT, max_size=4))
def test_labels_come_back_as_they_went_without_the_empty_ones(given_labels: dict[str, str]) -> None:
    column = labels.dump(given_labels)
    assert labels.load(column) == {key: value for key, value in given_labels.items() if value}
    assert column.isascii()


@pytest.mark.parametrize("bad", [{"": "x"}, {"k": "v" * 4096}, {"é" * 1000: "ü" * 1100}, {"k": 1}, {1: "v"}])
def test_labels_that_containerd_refuses_are_refused(bad: dict[str, str]) -> None:
    with pytest.raises(errors.InvalidArgument):
        labels.dump(bad)


def test_the_longest_label_is_4096_bytes_of_key_and_value() -> None:
    assert labels.load(labels.dump({"k": "v" * 4095})) == {"k": "v" * 4095}


def test_labels_change_by_field() -> None:
    old = {"a": "1", "b": "2"}
    assert labels.changed(old, {"c": "3", "d": ""}) == {"c": "3"}
    assert labels.changed(old, {"c": "3"}, ["labels"]) == {"c": "3"}
    assert labels.changed(old, {"a": "", "x.y/z": "4"}, ["labels.a", "labels.x.y/z", "labels.b"]) == {"x.y/z": "4"}
    for field in ("target", "labels.", "label.a"):
        with pytest.raises(errors.InvalidArgument):
            labels.changed(old, {}, [field])


@pytest.mark.parametrize("good", ["a", "default", "k8s.io", "a-b_c.d", "A1", "x" * 76])
def test_containerds_identifiers_are_taken(good: str) -> None:
    identifiers.check(good, "thing")


@pytest.mark.parametrize("bad", ["", ".", "..", "a..b", "-a", "a-", "a/b", "a b", "é", "a\n", "x" * 77, "../x", "a._b"])
def test_other_identifiers_are_refused(bad: str) -> None:
    with pytest.raises(errors.InvalidArgument, match="invalid thing"):
        identifiers.check(bad, "thing")


def test_namespaces_have_labels_and_go_when_they_are_empty(db: Database) -> None:
    with db.write() as tx:
        namespaces.create(tx, "one", {"a": "b"})
        with pytest.raises(errors.AlreadyExists):
            namespaces.create(tx, "one")
        assert namespaces.update(tx, "one", {"c": "d"}, ["labels.c"]) == {"a": "b", "c": "d"}
        snapshots.insert(tx, "overlay", "used", "key", "active")
        assert namespaces.labels(tx, "used") == {}
        assert namespaces.listed(tx) == ["one", "used"]
        with pytest.raises(errors.FailedPrecondition, match="it has snapshots"):
            namespaces.delete(tx, "used")
        namespaces.delete(tx, "one")
        with pytest.raises(errors.NotFound):
            namespaces.delete(tx, "one")
        with pytest.raises(errors.NotFound):
            namespaces.labels(tx, "one")


def test_layers_are_kept_while_snapshots_use_them(db: Database) -> None:
    with db.write() as tx:
        layers.insert(tx, layer("1"))
        with pytest.raises(errors.AlreadyExists):
            layers.insert(tx, layer("1"))
        assert layers.get(tx, "sha256:1") == layer("1")
        assert layers.listed(tx) == [layer("1")]
        number = snapshots.insert(tx, "overlay", "default", "key", "committed", 0, "sha256:1")
        assert layers.users_of(tx, "sha256:1") == 1
        with pytest.raises(errors.FailedPrecondition, match="used by 1 snapshot"):
            layers.delete(tx, "sha256:1")
        snapshots.delete(tx, number)
        layers.delete(tx, "sha256:1")
        with pytest.raises(errors.NotFound):
            layers.delete(tx, "sha256:1")
        with pytest.raises(errors.NotFound):
            layers.get(tx, "sha256:1")


def test_a_snapshots_life(db: Database) -> None:
    with db.write() as tx:
        layers.insert(tx, layer("1"))
        base = snapshots.insert(
            tx, "overlay", "default", "base", "committed", 0, "sha256:1", {"a": "b"}, size=5, inodes=6
        )
        top = snapshots.insert(tx, "overlay", "default", "top", "active", base)
        row = snapshots.get(tx, "overlay", "default", "top")
        assert (row.number, row.kind, row.parent, row.parent_key, row.size) == (top, "active", base, "base", None)
        assert [r.key for r in snapshots.chain(tx, top)] == ["top", "base"]
        assert snapshots.has_children(tx, base)
        assert not snapshots.has_children(tx, top)
        with pytest.raises(errors.FailedPrecondition, match="'base' is the parent of 'top'"):
            snapshots.delete(tx, base)
        done = snapshots.commit(tx, top, "final", 7, 8, {"c": "d"})
        assert (done.key, done.kind, done.size, done.inodes, done.labels) == ("final", "committed", 7, 8, {"c": "d"})
        with pytest.raises(errors.FailedPrecondition, match="not active"):
            snapshots.commit(tx, top, "again", 0, 0)
        assert snapshots.update_labels(tx, top, {}).labels == {}
        assert [r.key for r in snapshots.walk(tx, "overlay", "default")] == ["base", "final"]
        assert snapshots.numbers(tx, "overlay") == {base, top}
        snapshots.delete(tx, top)
        snapshots.delete(tx, base)
        again = snapshots.insert(tx, "overlay", "default", "base", "active")
        assert again > top, "numbers name directories and are never used again"


def test_a_snapshot_needs_a_committed_parent_of_its_own(db: Database) -> None:
    with db.write() as tx:
        active = snapshots.insert(tx, "overlay", "default", "active", "active")
        committed = snapshots.insert(tx, "overlay", "default", "committed", "committed")
        for parent, error in (
            (active, errors.InvalidArgument),
            (999, errors.NotFound),
        ):
            with pytest.raises(error):
                snapshots.insert(tx, "overlay", "default", "key", "active", parent)
        with pytest.raises(errors.InvalidArgument):
            snapshots.insert(tx, "native", "default", "key", "active", committed)
        with pytest.raises(errors.InvalidArgument):
            snapshots.insert(tx, "overlay", "other", "key", "active", committed)
        with pytest.raises(errors.NotFound, match="no layer data"):
            snapshots.insert(tx, "overlay", "default", "key", "active", committed, "sha256:none")
        with pytest.raises(errors.AlreadyExists):
            snapshots.insert(tx, "overlay", "default", "active", "view", committed)
        with pytest.raises(errors.AlreadyExists):
            snapshots.commit(tx, active, "committed", 0, 0)
        with pytest.raises(errors.InvalidArgument):
            snapshots.insert(tx, "overlay", "default", "", "active")


def test_a_long_chain_comes_in_order(db: Database) -> None:
    with db.write() as tx:
        number = 0
        for depth in range(150):
            number = snapshots.insert(tx, "overlay", "default", f"k{depth}", "committed", number)
        assert [row.key for row in snapshots.chain(tx, number)] == [f"k{depth}" for depth in reversed(range(150))]
        with pytest.raises(errors.NotFound):
            snapshots.chain(tx, number + 1)
