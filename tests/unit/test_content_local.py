"""The content store: ingest, resume, commit, provide, delete, adopt."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orlop.base import errors
from orlop.base.cancel import Cancel
from orlop.base.oci.digest import Digest, of_bytes
from orlop.stores.content.api import Info
from orlop.stores.content.local import LocalContentStore
from orlop.stores.leases.api import Resource
from tests.support import faults
from tests.support.stores import Root, put

DATA = bytes(range(256)) * 1000
DIGEST = of_bytes(DATA)
OTHER = of_bytes(b"something else")


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(str(tmp_path / "root"))


@pytest.fixture
def store(root: Root) -> LocalContentStore:
    return root.content()


def test_a_committed_blob_is_listed_read_and_verified(root: Root, store: LocalContentStore) -> None:
    with store.writer("ref", len(DATA), DIGEST) as writer:
        assert writer.write(DATA[:1000]) == 1000
        assert writer.write(memoryview(DATA)[1000:]) == len(DATA) - 1000
        assert writer.digest() == DIGEST
        info = writer.commit(labels={"a": "b", "empty": ""})
    assert info == Info(DIGEST, len(DATA), info.created_ns, info.created_ns, {"a": "b"})
    assert store.info(DIGEST) == info
    assert list(store.walk()) == [info]
    assert store.read(DIGEST) == DATA
    assert store.verify(DIGEST) == info
    assert (root.ingests(), root.locks()) == ([], [])
    root.check()


def test_the_layout_is_containerds(root: Root, store: LocalContentStore) -> None:
    with store.writer("some/ref:1", len(DATA), DIGEST) as writer:
        writer.write(DATA[:10])
        directory = f"{root.path}/content/ingest/{hashlib.sha256(b'default/some/ref:1').hexdigest()}"
        assert set(os.listdir(directory)) == {"ref", "data", "total", "expected", "startedat"}
        assert Path(directory, "ref").read_text() == "default/some/ref:1"
        assert Path(directory, "total").read_text() == str(len(DATA))
        assert Path(directory, "data").read_bytes() == DATA[:10]
        writer.write(DATA[10:])
        writer.commit()
    blob = f"{root.path}/content/blobs/sha256/{DIGEST.encoded}"
    assert Path(blob).read_bytes() == DATA
    assert stat.S_IMODE(os.stat(blob).st_mode) == 0o444


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_both_registered_algorithms_are_kept_under_their_name(
    root: Root, store: LocalContentStore, algorithm: str
) -> None:
    digest = of_bytes(DATA, algorithm)
    with store.writer("ref", expected=digest) as writer:
        writer.write(DATA)
        writer.commit()
    assert root.files() == [digest]
    assert store.verify(digest).size == len(DATA)


def test_an_algorithm_told_only_at_commit_is_used(store: LocalContentStore) -> None:
    digest = of_bytes(DATA, "sha512")
    with store.writer("ref") as writer:
        writer.write(DATA)
        assert writer.commit(len(DATA), digest).digest == digest


def test_an_ingest_is_gone_on_with_where_it_stopped(store: LocalContentStore) -> None:
    with store.writer("ref", len(DATA), DIGEST) as writer:
        writer.write(DATA[:1000])
    status = store.status("ref")
    assert (status.ref, status.offset, status.total, status.expected) == ("ref", 1000, len(DATA), DIGEST)
    assert status.started_ns <= status.updated_ns
    with store.writer("ref") as writer:
        assert writer.status().offset == 1000
        assert writer.digest() == of_bytes(DATA[:1000])
        assert writer.status().expected == DIGEST
        writer.write(DATA[1000:])
        assert writer.commit().digest == DIGEST


@settings(max_examples=25, deadline=None)
@given(cuts=st.lists(st.tuples(st.integers(0, 5000), st.booleans(), st.integers(0, 5000)), max_size=6))
def test_any_mixture_of_writes_resumes_and_truncations_ends_in_the_right_digest(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[tuple[int, bool, int]]
) -> None:
    store = Root(str(tmp_path_factory.mktemp("root"))).content()
    written = b""
    writer = store.writer("ref")
    for count, again, keep in cuts:
        writer.write(DATA[len(written) : len(written) + count])
        written = DATA[: len(written) + count]
        if again:
            writer.close()
            writer = store.writer("ref")
            assert writer.status().offset == len(written)
        if keep < len(written):
            writer.truncate(keep)
            written = written[:keep]
        assert writer.digest() == of_bytes(written)
    with writer:
        assert writer.commit(len(written), of_bytes(written)).size == len(written)
    assert store.read(of_bytes(written)) == written


def test_an_empty_blob_can_be_kept(store: LocalContentStore) -> None:
    with store.writer("ref", 0, of_bytes(b"")) as writer:
        assert writer.commit().size == 0
    assert store.read(of_bytes(b"")) == b""


@pytest.mark.parametrize(("size", "expected"), [(0, OTHER), (len(DATA) + 1, DIGEST), (len(DATA) - 1, None)])
def test_wrong_bytes_are_data_loss_and_the_ingest_begins_anew(
    root: Root, store: LocalContentStore, size: int, expected: Digest | None
) -> None:
    with store.writer("ref") as writer:
        writer.write(DATA)
        with pytest.raises(errors.DataLoss, match="expected"):
            writer.commit(size, expected)
    assert (root.ingests(), root.files(), root.locks()) == ([], [], [])
    with store.writer("ref") as writer:
        assert writer.status().offset == 0


def test_a_blob_the_namespace_has_is_not_written_again(root: Root, store: LocalContentStore) -> None:
    put(store, DATA, {"a": "b"})
    with pytest.raises(errors.AlreadyExists):
        store.writer("again", len(DATA), DIGEST)
    with store.writer("unknown") as writer:
        writer.write(DATA)
        with pytest.raises(errors.AlreadyExists):
            writer.commit(labels={"c": "d"})
    assert store.info(DIGEST).labels == {"a": "b"}
    assert (root.ingests(), root.locks()) == ([], [])


def test_namespaces_see_only_what_they_have_committed(root: Root, store: LocalContentStore) -> None:
    put(store, DATA, {"a": "b"})
    other = root.content("other")
    with pytest.raises(errors.NotFound):
        other.info(DIGEST)
    with pytest.raises(errors.NotFound):
        other.open(DIGEST)
    assert list(other.walk()) == []


def test_a_blob_of_another_namespace_is_adopted_without_a_write(root: Root, store: LocalContentStore) -> None:
    put(store, DATA, {"a": "b"})
    before = os.stat(f"{root.path}/content/blobs/sha256/{DIGEST.encoded}")
    other = root.content("other")
    with other.writer("ref", len(DATA), DIGEST) as writer:
        assert writer.status().offset == len(DATA)
        with pytest.raises(errors.FailedPrecondition):
            writer.write(b"more")
        assert writer.commit(len(DATA), DIGEST, {"c": "d"}).labels == {"c": "d"}
    after = os.stat(f"{root.path}/content/blobs/sha256/{DIGEST.encoded}")
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert (store.info(DIGEST).labels, other.info(DIGEST).labels) == ({"a": "b"}, {"c": "d"})


def test_an_adopting_writer_may_be_written_from_the_beginning_instead(root: Root, store: LocalContentStore) -> None:
    put(store, DATA)
    with root.content("other").writer("ref", len(DATA), DIGEST) as writer:
        writer.truncate(0)
        writer.write(DATA)
        writer.commit()
    root.check()


def test_an_adopted_blob_of_the_wrong_size_is_data_loss(root: Root, store: LocalContentStore) -> None:
    put(store, DATA)
    with root.content("other").writer("ref", 0, DIGEST) as writer, pytest.raises(errors.DataLoss):
        writer.commit(len(DATA) - 1)
    assert store.read(DIGEST) == DATA


def test_isolated_namespaces_must_bring_the_bytes_unless_the_owner_shares(root: Root, store: LocalContentStore) -> None:
    put(store, DATA)
    isolated = root.content("other", policy="isolated")
    with isolated.writer("ref", len(DATA), DIGEST) as writer:
        assert writer.status().offset == 0
    isolated.abort("ref")
    from orlop.stores.metadata import namespaces

    with root.db.write() as tx:
        namespaces.create(tx, "default", {namespaces.SHAREABLE: "true"})
    with isolated.writer("ref", len(DATA), DIGEST) as writer:
        assert writer.status().offset == len(DATA)


def test_the_bytes_go_with_the_last_namespace(root: Root, store: LocalContentStore) -> None:
    put(store, DATA)
    put(root.content("other"), DATA)
    store.delete(DIGEST)
    assert root.files() == [DIGEST]
    with pytest.raises(errors.NotFound):
        store.delete(DIGEST)
    root.content("other").delete(DIGEST)
    assert (root.files(), root.locks()) == ([], [])


def test_an_open_blob_can_be_read_to_its_end_after_it_was_deleted(store: LocalContentStore) -> None:
    put(store, DATA)
    with store.open(DIGEST) as reader:
        store.delete(DIGEST)
        assert reader.read_at(0, len(DATA) + 5) == DATA


def test_reads_at_offsets(store: LocalContentStore) -> None:
    put(store, DATA)
    with store.open(DIGEST) as reader:
        assert reader.size == len(DATA)
        assert reader.read_at(300, 10) == DATA[300:310]
        assert reader.read_at(len(DATA) - 3, 100) == DATA[-3:]
        assert reader.read_at(len(DATA), 1) == b""
        with pytest.raises(errors.OutOfRange):
            reader.read_at(len(DATA) + 1, 1)
        assert os.pread(reader.fileno(), 4, 0) == DATA[:4]
    with pytest.raises(errors.FailedPrecondition):
        reader.read_at(0, 1)


def test_a_blob_larger_than_the_limit_is_not_read_into_memory(store: LocalContentStore) -> None:
    put(store, DATA)
    with pytest.raises(errors.ResourceExhausted):
        store.read(DIGEST, limit=len(DATA) - 1)


def test_labels_are_replaced_or_changed_one_by_one(store: LocalContentStore) -> None:
    put(store, DATA, {"a": "1", "b": "2"})
    assert store.update(DIGEST, {"b": "3", "c": "4"}, ["labels.b", "labels.a"]).labels == {"b": "3"}
    assert store.update(DIGEST, {"x": "y"}).labels == {"x": "y"}
    with pytest.raises(errors.InvalidArgument):
        store.update(DIGEST, {}, ["size"])
    with pytest.raises(errors.InvalidArgument):
        store.update(DIGEST, {"k": "v" * 5000})
    with pytest.raises(errors.NotFound):
        store.update(OTHER, {})


def test_walk_takes_filters(store: LocalContentStore) -> None:
    first = put(store, b"1", {"kind": "a"})
    second = put(store, b"22", {"kind": "b"})
    assert [info.digest for info in store.walk("labels.kind==a")] == [first]
    assert [info.digest for info in store.walk(f"digest=={second}")] == [second]
    assert {info.digest for info in store.walk("labels.kind==a", "size==2")} == {first, second}


def test_statuses_are_of_ones_own_namespace(root: Root, store: LocalContentStore) -> None:
    for ref in ("b", "a"):
        store.writer(ref).close()
    root.content("other").writer("c").close()
    assert [status.ref for status in store.list_statuses()] == ["a", "b"]
    assert [status.ref for status in store.list_statuses("ref==b")] == ["b"]
    with pytest.raises(errors.NotFound):
        store.status("c")


def test_abort_removes_an_ingest_but_not_under_its_writer(root: Root, store: LocalContentStore) -> None:
    with store.writer("ref") as writer:
        writer.write(b"x")
        with pytest.raises(errors.Unavailable):
            store.abort("ref")
    store.abort("ref")
    with pytest.raises(errors.NotFound):
        store.abort("ref")
    assert (root.ingests(), root.locks()) == ([], [])


def test_a_second_writer_of_a_ref_waits_or_is_refused(store: LocalContentStore) -> None:
    order = []

    def second() -> None:
        try:
            store.writer("ref", len(DATA), DIGEST)
        except errors.AlreadyExists:
            order.append("second")

    with store.writer("ref", len(DATA), DIGEST) as writer:
        with pytest.raises(errors.Unavailable):
            store.writer("ref", wait=False)
        with pytest.raises(errors.DeadlineExceeded):
            store.writer("ref", cancel=Cancel(timeout=0.01))
        thread = threading.Thread(target=second)
        thread.start()
        writer.write(DATA)
        order.append("first")
        writer.commit()
    thread.join()
    assert order == ["first", "second"]


def test_what_is_committed_or_found_there_is_held_by_the_lease(root: Root) -> None:
    leases = root.leases()
    first, second = leases.create("first"), leases.create("second")
    put(root.content(lease=first.id), DATA)
    held = [Resource("content", DIGEST)]
    assert leases.list_resources("first") == held
    with pytest.raises(errors.AlreadyExists):
        root.content(lease=second.id).writer("ref", expected=DIGEST)
    assert leases.list_resources("second") == held


def test_an_ingest_that_is_left_is_held_by_the_lease(root: Root) -> None:
    root.leases().create("lease")
    with root.content(lease="lease").writer("ref") as writer:
        writer.write(b"x")
    assert root.leases().list_resources("lease") == [Resource("ingests", "ref")]


def test_without_its_lease_nothing_is_committed(root: Root) -> None:
    root.leases().create("lease")
    with root.content(lease="lease").writer("ref") as writer:
        writer.write(DATA)
        root.leases().delete("lease")
        with pytest.raises(errors.NotFound, match="lease"):
            writer.commit()
    assert list(root.content().walk()) == []


def test_a_missing_or_shortened_file_is_told_and_healed_by_writing_it_again(
    root: Root, store: LocalContentStore
) -> None:
    put(store, DATA, {"a": "b"})
    path = Path(f"{root.path}/content/blobs/sha256/{DIGEST.encoded}")
    path.unlink()
    with pytest.raises(errors.DataLoss, match="missing"):
        store.read(DIGEST)
    put(store, DATA)
    assert store.read(DIGEST) == DATA
    assert store.info(DIGEST).labels == {"a": "b"}
    path.chmod(0o644)
    path.write_bytes(DATA[:-1])
    with pytest.raises(errors.DataLoss, match="bytes"):
        store.open(DIGEST)
    put(store, DATA)
    root.check()


def test_verify_finds_changed_bytes(root: Root, store: LocalContentStore) -> None:
    put(store, DATA)
    path = Path(f"{root.path}/content/blobs/sha256/{DIGEST.encoded}")
    path.chmod(0o644)
    path.write_bytes(DATA[:-1] + b"!")
    with pytest.raises(errors.DataLoss, match="damaged"):
        store.verify(DIGEST)


def test_hashing_can_be_cancelled(store: LocalContentStore) -> None:
    put(store, DATA)
    cancel = Cancel()
    cancel.cancel()
    with pytest.raises(errors.Cancelled):
        store.verify(DIGEST, cancel)
    with store.writer("ref") as writer:
        writer.write(DATA)
    with pytest.raises(errors.Cancelled):
        store.writer("ref", cancel=cancel)
    with store.writer("ref") as writer:
        assert writer.status().offset == len(DATA)


@pytest.mark.parametrize("ref", ["", "x" * 5000, "a\0b"])
def test_a_bad_reference_is_refused(store: LocalContentStore, ref: str) -> None:
    with pytest.raises(errors.InvalidArgument):
        store.writer(ref)


def test_a_bad_digest_never_becomes_a_path(store: LocalContentStore) -> None:
    for text in ("sha256:../../../etc/passwd", "md5:" + "0" * 32, "../x"):
        with pytest.raises(errors.NotFound):
            store.info(Digest(text))
    with pytest.raises(errors.InvalidArgument):
        store.writer("ref", expected="sha256:../../x")  # type: ignore[arg-type]


def test_each_chunk_is_written_once_and_nothing_is_read_back(
    store: LocalContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_write, real_pread, real_read = os.write, os.pread, os.read

    def write(fd: int, data: bytes) -> int:
        if len(data) == 100_000:
            calls.append("write")
        return real_write(fd, data)

    def pread(fd: int, length: int, offset: int) -> bytes:
        calls.append("read")
        return real_pread(fd, length, offset)

    def read(fd: int, length: int) -> bytes:
        data = real_read(fd, length)
        if len(data) > 1000:
            calls.append("read")
        return data

    chunk = b"x" * 100_000
    with store.writer("ref", 300_000, of_bytes(chunk * 3)) as writer:
        monkeypatch.setattr(os, "write", write)
        monkeypatch.setattr(os, "pread", pread)
        monkeypatch.setattr(os, "read", read)
        for _ in range(3):
            writer.write(chunk)
        writer.commit()
    assert calls == ["write"] * 3


def test_commit_makes_the_data_durable_then_its_name_then_its_row(
    root: Root, store: LocalContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    from orlop.base import faults as points

    calls: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename
    writer = store.writer("ref", len(DATA), DIGEST)
    writer.write(DATA)

    def fsync(fd: int) -> None:
        calls.append(f"fsync {os.path.basename(os.readlink(f'/proc/self/fd/{fd}'))}")
        real_fsync(fd)

    def rename(old: str, new: str) -> None:
        calls.append(f"rename {os.path.basename(old)}")
        assert root.locks() != []
        real_rename(old, new)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    monkeypatch.setattr(points, "hook", lambda name: calls.append(name) if name == "metadata.commit.done" else None)
    os.makedirs(f"{root.path}/content/blobs/sha256")
    with writer:
        writer.commit()
    assert calls == ["fsync data", "rename data", "fsync sha256", "metadata.commit.done"]


@pytest.mark.parametrize(
    "point", ["content.commit.renamed", "content.commit.named", "content.commit.inserted", "metadata.commit.begun"]
)
def test_a_commit_that_failed_for_a_full_disk_can_be_repeated(root: Root, store: LocalContentStore, point: str) -> None:
    with store.writer("ref", len(DATA), DIGEST) as writer:
        writer.write(DATA)
        full = OSError(errno.ENOSPC, "No space left on device")
        with faults.failing_at(point, full), pytest.raises((errors.ResourceExhausted, OSError)):
            writer.commit()
        with pytest.raises(errors.NotFound):
            store.info(DIGEST)
        assert writer.commit(labels={"a": "b"}).labels == {"a": "b"}
    root.check()
    assert (root.ingests(), root.locks()) == ([], [])


@pytest.mark.parametrize("point", ["content.commit.renamed", "content.commit.inserted"])
def test_a_commit_that_was_given_up_is_finished_by_the_next_writer(
    root: Root, store: LocalContentStore, point: str
) -> None:
    with store.writer("ref", len(DATA), DIGEST) as writer:
        writer.write(DATA)
        with faults.failing_at(point, errors.Unavailable("busy")), pytest.raises(errors.Unavailable):
            writer.commit()
    root.check()
    with store.writer("ref", len(DATA), DIGEST) as writer:
        assert writer.status().offset == len(DATA)
        writer.commit()
    assert store.read(DIGEST) == DATA


def test_data_that_could_not_be_synced_is_forgotten(store: LocalContentStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with store.writer("ref", len(DATA), DIGEST) as writer:
        writer.write(DATA)
        real = os.fsync

        def fails(fd: int) -> None:
            raise OSError(errno.EIO, "Input/output error")

        monkeypatch.setattr(os, "fsync", fails)
        with pytest.raises(errors.Internal):
            writer.commit()
        monkeypatch.setattr(os, "fsync", real)
        assert writer.status().offset == 0
        writer.write(DATA)
        writer.commit()
    assert store.verify(DIGEST).size == len(DATA)


def test_a_write_that_fails_in_the_middle_leaves_the_ingest_at_its_last_good_offset(
    store: LocalContentStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store.writer("ref", len(DATA), DIGEST) as writer:
        writer.write(DATA[:1000])
        real = os.write

        def half(fd: int, data: bytes) -> int:
            if len(data) <= 1000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return real(fd, data[:1000])

        monkeypatch.setattr(os, "write", half)
        with pytest.raises(errors.ResourceExhausted) as caught:
            writer.write(DATA[1000:3000])
        assert "orlop gc" in caught.value.advice
        monkeypatch.setattr(os, "write", real)
        assert writer.status().offset == 1000
        writer.write(DATA[1000:])
        assert writer.commit().digest == DIGEST
