"""The layer store: built once, durable, shared; crashes leave only garbage; cleaning spares what is alive."""

import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from orlop.base import errors, faults, fsio
from orlop.base.cancel import Cancel
from orlop.base.oci import digest
from orlop.stores.layers import local
from orlop.stores.layers.local import LocalLayerStore
from orlop.stores.metadata.database import Database

ONE = digest.of_bytes(b"one")
TWO = digest.of_bytes(b"two")
REPOSITORY = str(Path(__file__).resolve().parents[2])


@pytest.fixture
def root(tmp_path):
    (tmp_path / "root").mkdir(mode=0o700)
    return str(tmp_path / "root")


@pytest.fixture
def store(root):
    db = Database(f"{root}/metadata.db")
    yield LocalLayerStore(db, root)
    db.close()


def fill(builder, **files):
    for name, content in (files or {"file": "content"}).items():
        Path(builder.path, name).write_text(content)


def build(store, diff_id=ONE, **options):
    with store.build(diff_id) as builder:
        fill(builder)
        return builder.commit(diff_id, size=7, inodes=2, tar_size=10240, **options)


def names(root, below):
    return sorted(os.listdir(f"{root}/layers/{below}")) if os.path.isdir(f"{root}/layers/{below}") else []


def test_a_layer_is_built_and_found(store, root):
    made = build(store, implied=(".", "usr"), foreign_links=(("a", "b"),))
    assert store.get(ONE) == made
    assert made.path == f"{root}/layers/sha256/{ONE.encoded}/fs"
    assert (made.form, made.size, made.inodes, made.tar_size) == ("tree", 7, 2, 10240)
    assert (made.implied, made.foreign_links) == ((".", "usr"), (("a", "b"),))
    assert Path(made.path, "file").read_text() == "content"
    assert names(root, "ingest") == []
    assert [layer.diff_id for layer in store.list()] == [ONE]


def test_what_is_not_built_is_not_found(store):
    with pytest.raises(errors.NotFound, match=str(ONE)):
        store.get(ONE)
    assert list(store.list()) == []


def test_the_root_of_a_new_tree_is_plain_whatever_the_umask(store):
    old = os.umask(0o077)
    try:
        with store.build(ONE) as builder:
            status = os.stat(builder.path)
    finally:
        os.umask(old)
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o755, 0, 0)


def test_an_aborted_build_leaves_nothing(store, root):
    with store.build(ONE) as builder:
        fill(builder)
    builder.abort()
    for below in ("ingest", "sha256", "trash"):
        assert names(root, below) == []
    assert os.listdir(f"{root}/locks") == []
    build(store)


def test_another_diff_id_than_the_one_promised_is_refused_and_thrown_away(store, root):
    builder = store.build(ONE)
    fill(builder)
    with pytest.raises(errors.DataLoss, match=str(TWO)):
        builder.commit(TWO, size=0, inodes=0, tar_size=0)
    with pytest.raises(errors.FailedPrecondition):
        builder.commit(ONE, size=0, inodes=0, tar_size=0)
    for each in (ONE, TWO):
        with pytest.raises(errors.NotFound):
            store.get(each)
    assert names(root, "ingest") == []


def test_a_built_layer_is_not_built_again(store):
    build(store)
    with pytest.raises(errors.AlreadyExists):
        store.build(ONE)


def test_a_second_builder_waits_and_then_finds_it_built(store):
    first = store.build(ONE)
    outcome = []

    def second():
        try:
            store.build(ONE)
        except errors.OrlopError as error:
            outcome.append(type(error))

    thread = threading.Thread(target=second)
    thread.start()
    with store.build(TWO) as other:  # another layer does not wait
        fill(other)
    assert outcome == []
    fill(first)
    first.commit(ONE, size=0, inodes=0, tar_size=0)
    thread.join(timeout=30)
    assert outcome == [errors.AlreadyExists]


def test_a_second_builder_goes_on_when_the_first_gives_up(store):
    first = store.build(ONE)
    built = []
    thread = threading.Thread(target=lambda: built.append(build(store)))
    thread.start()
    first.abort()
    thread.join(timeout=30)
    assert built[0].diff_id == ONE


def test_waiting_for_a_builder_ends_at_the_deadline(store):
    with store.build(ONE):
        with pytest.raises(errors.DeadlineExceeded):
            store.build(ONE, Cancel(timeout=0.01))


def test_a_removed_layer_is_gone_at_once_and_deleted_by_cleanup(store, root):
    build(store)
    store.remove(ONE)
    with pytest.raises(errors.NotFound):
        store.get(ONE)
    with pytest.raises(errors.NotFound):
        store.remove(ONE)
    assert names(root, "sha256") == names(root, "l") == []
    assert len(names(root, "trash")) == 1
    store.cleanup()
    assert names(root, "trash") == []
    build(store)


def test_short_links_lead_to_the_tree_and_never_to_another_layers(store, root):
    made = build(store)
    short = local.short_tree_path(root, ONE)
    assert len(short) < len(made.path)
    assert os.path.samefile(short, made.path)
    alike = digest.parse(f"sha512:{ONE.encoded[:12]}{'0' * 116}")
    build(store, alike)
    assert local.short_tree_path(root, alike) == local.tree_path(root, alike)
    store.remove(alike)
    assert local.short_tree_path(root, ONE) == short


def test_cleanup_spares_what_is_being_built(store, root):
    builder = store.build(ONE)
    fill(builder)
    store.cleanup()
    assert os.path.exists(f"{builder.path}/file")
    builder.commit(ONE, size=0, inodes=0, tar_size=0)
    store.cleanup()
    assert os.path.exists(f"{store.get(ONE).path}/file")


def test_files_without_a_row_are_taken_away_but_not_those_with_one(store, root):
    build(store)
    store.remove_files(ONE)
    assert os.path.exists(f"{store.get(ONE).path}/file")
    os.makedirs(f"{root}/layers/sha256/{TWO.encoded}/fs")
    store.remove_files(TWO)
    assert names(root, "sha256") == [ONE.encoded]


def test_a_full_disk_fails_the_build_and_gives_its_space_back(store, root, monkeypatch):
    def full(name):
        if name == "layers.commit.sync":
            raise OSError(28, "No space left on device")

    builder = store.build(ONE)
    fill(builder)
    monkeypatch.setattr(faults, "hook", full)
    with pytest.raises(errors.ResourceExhausted, match=str(ONE)):
        builder.commit(ONE, size=0, inodes=0, tar_size=0)
    monkeypatch.setattr(faults, "hook", None)
    assert names(root, "ingest") == names(root, "trash") == names(root, "sha256") == []
    build(store)


POINTS = ["begun", "layers.commit.sync", "layers.commit.synced", "layers.commit.renamed", "layers.commit.row"]


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_point_the_layer_is_whole_or_absent_and_can_be_built(store, root, point):
    program = f"""
        import os
        from orlop.base import faults
        from orlop.base.oci import digest
        from orlop.stores.layers.local import LocalLayerStore
        from orlop.stores.metadata.database import Database
        faults.hook = lambda name: os._exit(77) if name == {point!r} else None
        builder = LocalLayerStore(Database({root!r} + "/metadata.db"), {root!r}).build(digest.parse({str(ONE)!r}))
        open(builder.path + "/file", "w").write("content")
        faults.point("begun")
        builder.commit(digest.parse({str(ONE)!r}), size=7, inodes=2, tar_size=0)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.returncode == 77, run.stderr
    if point == "layers.commit.row":
        assert Path(store.get(ONE).path, "file").read_text() == "content"
        store.cleanup()
        assert Path(store.get(ONE).path, "file").read_text() == "content"
        return
    with pytest.raises(errors.NotFound):
        store.get(ONE)
    if point == "layers.commit.synced":
        store.cleanup()
        assert names(root, "ingest") == names(root, "sha256") == names(root, "trash") == []
    build(store)  # also over what was left
    store.cleanup()
    assert names(root, "sha256") == [ONE.encoded]
    assert names(root, "ingest") == names(root, "trash") == []
    assert os.listdir(f"{root}/locks") == []


def test_a_removal_killed_after_its_row_is_finished_by_cleanup(store, root):
    build(store)
    program = f"""
        import os
        from orlop.base import faults
        from orlop.base.oci import digest
        from orlop.stores.layers.local import LocalLayerStore
        from orlop.stores.metadata.database import Database
        faults.hook = lambda name: os._exit(77) if name == "layers.remove.row" else None
        LocalLayerStore(Database({root!r} + "/metadata.db"), {root!r}).remove(digest.parse({str(ONE)!r}))
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert run.returncode == 77, run.stderr
    with pytest.raises(errors.NotFound):
        store.get(ONE)
    assert names(root, "sha256") == [ONE.encoded]
    store.cleanup()
    assert names(root, "sha256") == names(root, "trash") == []


def test_the_lock_is_held_by_the_builder_alone(store, root):
    builder = store.build(ONE)
    assert fsio.is_locked(local.lock_path(root, ONE))
    builder.abort()
    assert not fsio.is_locked(local.lock_path(root, ONE))
