"""The volume store: rows, directories, uses by containers, copy-up, crashes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from orlop.base import errors
from orlop.stores.containers.api import Container
from orlop.stores.volumes.local import LocalVolumeStore
from tests.support import faults
from tests.support.stores import Root

CONTAINER = "c" * 64


@pytest.fixture
def root(tmp_path: Path) -> Root:
    return Root(str(tmp_path / "root"))


@pytest.fixture
def store(root: Root) -> LocalVolumeStore:
    return LocalVolumeStore(root.db, root.path, "default")


def test_a_volume_is_made_once_and_lies_under_its_namespace(root: Root, store: LocalVolumeStore) -> None:
    made = store.create("data", labels={"a": "1", "empty": ""})
    assert store.path(made) == f"{root.path}/volumes/default/data/_data"
    assert os.stat(store.path(made)).st_mode & 0o7777 == 0o755
    assert store.create("data") == made == store.get("data")
    assert made.labels == {"a": "1", "empty": ""}
    assert not made.anonymous


def test_without_a_name_it_is_anonymous(store: LocalVolumeStore) -> None:
    made = store.create()
    assert made.anonymous
    assert len(made.name) == 64


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "ä", "a" * 256, "a b"])
def test_a_bad_name_is_refused_by_use(root: Root, store: LocalVolumeStore, name: str) -> None:
    if name:
        with pytest.raises(errors.InvalidArgument, match="invalid volume name"):
            store.create(name)
    assert store.list() == []


@pytest.mark.parametrize(
    ("driver", "options", "text"),
    [
        ("nfs", {}, "driver 'nfs'"),
        ("local", {"size": "1g"}, "'size'"),
        ("local", {"type": "nfs", "o": "addr=1", "device": ":/x"}, "type=nfs"),
        ("local", {"type": "none", "o": "bind", "device": "x"}, "device='x'"),
        ("local", {"type": "tmpfs"}, "type=tmpfs"),
    ],
)
def test_a_driver_or_option_that_cannot_be_done_is_refused(
    store: LocalVolumeStore, driver: str, options: dict[str, str], text: str
) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        store.create("v", driver=driver, options=options)
    assert text in caught.value.message
    assert store.list() == []


def test_a_volume_can_stand_for_a_directory_of_the_host(store: LocalVolumeStore, tmp_path: Path) -> None:
    options = {"type": "none", "o": "bind", "device": str(tmp_path)}
    made = store.create("host", options=options)
    assert store.path(made) == str(tmp_path)
    with pytest.raises(errors.AlreadyExists):
        store.create("host", options={**options, "device": "/srv"})


def test_it_stays_as_long_as_a_container_uses_it(root: Root, store: LocalVolumeStore) -> None:
    containers = root.containers()
    containers.create(Container(id=CONTAINER, name="box"))
    made = store.use("data", CONTAINER)
    Path(store.path(made), "file").write_text("x")
    with pytest.raises(errors.FailedPrecondition, match=f"volume is in use - .{CONTAINER}"):
        store.remove("data")
    assert store.users("data") == [CONTAINER]
    assert [v.name for v in store.used_by(CONTAINER)] == ["data"]
    assert store.unused() == []
    containers.delete(CONTAINER)
    assert store.unused() == [made]
    store.remove("data")
    assert store.list() == []
    assert os.listdir(f"{root.path}/volumes/default") == []
    with pytest.raises(errors.NotFound):
        store.remove("data")


def test_only_a_container_with_a_record_can_use_one(store: LocalVolumeStore) -> None:
    with pytest.raises(errors.NotFound):
        store.use("data", CONTAINER)
    assert store.list() == []


def test_a_volume_keeps_its_namespace(root: Root, store: LocalVolumeStore) -> None:
    from orlop.stores.metadata import namespaces

    store.create("data")
    with root.db.read() as tx:
        assert namespaces.holds(tx, "default") == "volumes"
    assert LocalVolumeStore(root.db, root.path, "other").list() == []


def test_an_empty_volume_takes_the_images_files_and_a_full_one_keeps_its_own(
    root: Root, store: LocalVolumeStore, tmp_path: Path
) -> None:
    source = tmp_path / "image"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_text("cargo")
    (source / "link").symlink_to("/etc/shadow")
    os.chmod(source, 0o1750)
    os.chown(source, 12, 34)
    made = store.create("data")
    assert store.populate(made, str(source))
    data = Path(store.path(made))
    assert (data / "sub" / "file").read_text() == "cargo"
    assert os.readlink(data / "link") == "/etc/shadow"
    status = data.stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o1750, 12, 34)
    (data / "link").unlink()
    assert not store.populate(made, str(source))
    assert sorted(os.listdir(data)) == ["sub"]


def test_a_copy_up_that_is_killed_anywhere_is_whole_after_the_next(root: Root, tmp_path: Path) -> None:
    source = tmp_path / "image"
    source.mkdir()
    for name in ("a", "b", "c"):
        (source / name).write_text(name * 10)
    store = LocalVolumeStore(root.db, root.path, "default")

    def work(name: str) -> None:
        store.populate(store.create(name), str(source))

    points = faults.points(lambda: work("probe"))
    assert "volumes.populate.moved" in points
    for index in range(len(points)):
        faults.killed_at(lambda: work(f"v{index}"), index)  # noqa: B023 - runs at once
        work(f"v{index}")
        data = Path(store.path(store.get(f"v{index}")))
        assert {p.name: p.read_text() for p in data.iterdir()} == {n: n * 10 for n in ("a", "b", "c")}
        assert sorted(os.listdir(data.parent)) == ["_data", "lock"]


def test_a_removal_that_is_killed_never_shows_old_files_in_a_new_volume(root: Root) -> None:
    store = LocalVolumeStore(root.db, root.path, "default")

    def make(name: str) -> None:
        Path(store.path(store.create(name)), "old").write_text("secret")

    make("probe")
    points = faults.points(lambda: store.remove("probe"))
    for index in range(len(points)):
        name = f"v{index}"
        make(name)
        faults.killed_at(lambda: store.remove(name), index)  # noqa: B023 - runs at once
        try:
            store.remove(name)
        except errors.NotFound:
            pass
        assert os.listdir(store.path(store.create(name))) == []


def test_cleanup_deletes_what_has_no_row(root: Root, store: LocalVolumeStore) -> None:
    kept = store.create("kept")
    os.makedirs(f"{root.path}/volumes/default/lost/_data")
    os.makedirs(f"{root.path}/volumes/.trash/feed")
    store.cleanup()
    assert os.listdir(f"{root.path}/volumes/default") == ["kept"]
    assert os.listdir(f"{root.path}/volumes/.trash") == []
    assert os.path.isdir(store.path(kept))


def test_of_many_that_fill_a_volume_at_once_one_does_and_all_find_it_full(root: Root, tmp_path: Path) -> None:
    source = tmp_path / "image"
    source.mkdir()
    for number in range(50):
        (source / str(number)).write_text("x" * number)
    names = {str(number) for number in range(50)}

    def work() -> None:
        store = LocalVolumeStore(root.db, root.path, "default")
        made = store.create("data")
        store.populate(made, str(source))
        if set(os.listdir(store.path(made))) != names:
            raise AssertionError("a volume was seen before it was full")

    logs = [str(tmp_path / f"log{number}") for number in range(6)]
    pids = [faults.start(work, log) for log in logs]
    statuses = [os.waitpid(pid, 0)[1] for pid in pids]
    assert statuses == [0] * 6, [Path(log).read_text() for log in logs if os.path.exists(log)]
